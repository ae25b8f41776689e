/* The routes (PROTOCOL.md sections 3.2 to 3.5). */
#include "daemon/routes.h"

#include "daemon/publish/resume.h"
#include "daemon/publish/upload.h"
#include "daemon/serve/closure.h"
#include "daemon/serve/fetch.h"
#include "daemon/serve/lookup.h"
#include "daemon/serve/many.h"
#include "daemon/serve/map.h"
#include "daemon/serve/slice.h"

void routes_fill(struct route ret_routes[ROUTES_MAX], struct publish *publish, struct serve *serve)
{
    const struct route routes[ROUTES_MAX] = {
        {.type = PROTO_HAS, .begin = lookup_has, .room = serve},
        {.type = PROTO_STAT, .begin = lookup_stat, .room = serve},
        {.type = PROTO_GET, .begin = fetch_begin, .room = serve, .ahead = fetch_ahead},
        {.type = PROTO_GET_MANY,
         .feature = PROTO_FEATURE_GET_MANY,
         .begin = many_begin,
         .room = serve},
        {.type = PROTO_CLOSURE,
         .feature = PROTO_FEATURE_CLOSURE,
         .begin = closure_begin,
         .room = serve},
        {.type = PROTO_MAP, .begin = map_begin, .room = serve},
        {.type = PROTO_SLICE, .feature = PROTO_FEATURE_SLICE, .begin = slice_begin, .room = serve},
        {.type = PROTO_PUT_DATA, .has_body = true, .begin = upload_begin, .room = publish},
        {.type = PROTO_PUT_IMAGE, .has_body = true, .begin = upload_begin, .room = publish},
        {.type = PROTO_PUT_CAP,
         .has_body = true,
         .feature = PROTO_FEATURE_PUT_CAP,
         .begin = upload_begin,
         .room = publish},
        {.type = PROTO_RESUME,
         .feature = PROTO_FEATURE_RESUME,
         .begin = resume_begin,
         .room = publish},
        {.begin = NULL},
    };
    memcpy(ret_routes, routes, sizeof(routes));
}
