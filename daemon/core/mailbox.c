/* Letters under a mutex; the first of a batch wakes the loop. */
#include "daemon/core/mailbox.h"

#include "daemon/core/container.h"

static void run_letters(struct mailbox *mailbox)
{
    struct letters letters = STAILQ_HEAD_INITIALIZER(letters);
    uv_mutex_lock(&mailbox->lock);
    STAILQ_CONCAT(&letters, &mailbox->letters);
    uv_mutex_unlock(&mailbox->lock);
    while (!STAILQ_EMPTY(&letters)) {
        struct letter *letter = STAILQ_FIRST(&letters);
        STAILQ_REMOVE_HEAD(&letters, link);
        letter->run(letter);
    }
}

static void on_async(uv_async_t *async)
{
    run_letters(CONTAINER_OF(async, struct mailbox, async));
}

enum cap_error mailbox_open(struct mailbox *mailbox, uv_loop_t *loop)
{
    *mailbox = (struct mailbox){.open = true};
    STAILQ_INIT(&mailbox->letters);
    if (uv_mutex_init(&mailbox->lock) != 0) {
        return CAP_E_NO_MEMORY;
    }
    if (uv_async_init(loop, &mailbox->async, on_async) != 0) {
        uv_mutex_destroy(&mailbox->lock);
        return CAP_E_NO_MEMORY;
    }
    mailbox->made = true;
    return CAP_OK;
}

bool mailbox_post(struct mailbox *mailbox, struct letter *letter)
{
    uv_mutex_lock(&mailbox->lock);
    bool open = mailbox->open;
    if (open) {
        bool wakes = STAILQ_EMPTY(&mailbox->letters);
        STAILQ_INSERT_TAIL(&mailbox->letters, letter, link);
        if (wakes) {
            (void)uv_async_send(&mailbox->async);
        }
    }
    uv_mutex_unlock(&mailbox->lock);
    return open;
}

void mailbox_close(struct mailbox *mailbox)
{
    if (!mailbox->made) {
        return;
    }
    uv_mutex_lock(&mailbox->lock);
    bool was_open = mailbox->open;
    mailbox->open = false;
    uv_mutex_unlock(&mailbox->lock);
    if (was_open) {
        run_letters(mailbox);
        uv_close((uv_handle_t *)&mailbox->async, NULL);
    }
}

void mailbox_free(struct mailbox *mailbox)
{
    if (mailbox->made) {
        mailbox->made = false;
        uv_mutex_destroy(&mailbox->lock);
    }
}
