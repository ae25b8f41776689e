#include "daemon/http/html.h"

#include <string.h>

/* Its hash is HTML_STYLE_SOURCE; a test says so when one of the two changes. */
#define STYLE                                                                                      \
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;"     \
    "color:#222;background:#fff}"                                                                  \
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem}"                                        \
    "th,td{text-align:left;padding:.2rem 1rem .2rem 0;border-bottom:1px solid #ddd;"               \
    "vertical-align:top}"                                                                          \
    "code,td,input{font-family:ui-monospace,monospace;font-size:.9em}"                             \
    "input{width:34rem;max-width:70%%}"                                                            \
    ".absent{color:#b00}"

void html_text(struct admin_text *page, const char *text)
{
    while (*text != '\0') {
        size_t plain = strcspn(text, "&<>\"'");
        admin_print(page, "%.*s", (int)plain, text);
        text += plain;
        switch (*text) {
        case '&':
            admin_print(page, "&amp;");
            break;
        case '<':
            admin_print(page, "&lt;");
            break;
        case '>':
            admin_print(page, "&gt;");
            break;
        case '"':
            admin_print(page, "&quot;");
            break;
        case '\'':
            admin_print(page, "&#39;");
            break;
        default:
            return;
        }
        text++;
    }
}

void html_begin(struct admin_text *page, const char *root, const char *title)
{
    admin_print(page, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                      "<meta name=\"viewport\" content=\"width=device-width\"><title>");
    html_text(page, title);
    admin_print(page,
                "</title><style>" STYLE "</style></head>\n<body>\n"
                "<p><a href=\"%s\">capstore</a></p>\n<h1>",
                root[0] != '\0' ? root : "./");
    html_text(page, title);
    admin_print(page, "</h1>\n");
}

void html_end(struct admin_text *page)
{
    admin_print(page, "</body></html>\n");
}

void html_row(struct admin_text *page, const char *what, const char *text)
{
    admin_print(page, "<tr><th>");
    html_text(page, what);
    admin_print(page, "</th><td>%s</td></tr>\n", text);
}
