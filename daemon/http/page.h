/* Pages for a person: no script, and nothing that a cap holds is shown unescaped. */
#ifndef DAEMON_HTTP_PAGE_H
#define DAEMON_HTTP_PAGE_H

#include "daemon/http/answer.h"

/* /: what this is, figures, and a field to look a hash up. */
enum MHD_Result http_page_home(const struct http_call *call);

/* /find?hash=...: the page of the cap whose hash begins so. */
enum MHD_Result http_page_find(const struct http_call *call);

/* /caps/HASH/view: a cap laid out, with links to what it refers to. */
enum MHD_Result http_page_view(const struct http_call *call, const struct cap_hash *hash);

#endif
