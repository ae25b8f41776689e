/* Pages for a person: HTML that is built piece by piece. Any thread. */
#ifndef DAEMON_HTTP_HTML_H
#define DAEMON_HTTP_HTML_H

#include "daemon/admin/text.h"

/* The CSP source of the one style that every page has: its hash, so that no other style applies. */
#define HTML_STYLE_SOURCE "'sha256-/o2AIGYDGv5WzwrWfanfWZ5M/mM9g3BAvtDXmrAIFpE='"

/*
 * A page up to its body: head, style, title. The title is escaped; `root` is the way from the
 * page's path to /, so that links hold below the prefix of a proxy, too.
 */
void html_begin(struct admin_text *page, const char *root, const char *title);

/* The end of the body. */
void html_end(struct admin_text *page);

/* A text, escaped for content and for attributes in double quotes. */
void html_text(struct admin_text *page, const char *text);

/* A row of a table: what, and a text of ours as it is. */
void html_row(struct admin_text *page, const char *what, const char *text);

#endif
