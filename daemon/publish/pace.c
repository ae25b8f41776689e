/* The pace of an upload. */
#include "daemon/publish/pace.h"

#include <inttypes.h>

bool pace_tick(struct pace *pace, uint64_t now_us)
{
    bool waited = !pace->ours;
    if (waited && now_us > pace->ticked_us) {
        pace->waited_us += now_us - pace->ticked_us;
    }
    pace->ticked_us = now_us;
    pace->ours = false;
    return waited;
}

enum cap_error pace_judge(const struct pace *pace, uint64_t received, const struct config *config,
                          struct judgement *ret_judgement)
{
    uint64_t seconds = pace->waited_us / 1000000;
    uint64_t rate = config->min_upload_rate;
    if (rate == 0 || pace->waited_us <= config->min_upload_grace_ms * 1000 ||
        received >= rate * seconds) {
        return CAP_OK;
    }
    return judgement_say(ret_judgement, CAP_E_UPLOAD_TOO_SLOW,
                         "the body comes at %" PRIu64
                         " bytes per second; min-upload-rate is %" PRIu64,
                         received / seconds, rate);
}
