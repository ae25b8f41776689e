/* Writes what the table of methods says: `capstore_admin_doc markdown` or `man`, to stdout. */
#include <stdio.h>
#include <string.h>

#include "daemon/admin/reference.h"

int main(int argc, char **argv)
{
    struct cap_buf text = {0};
    enum cap_error error = CAP_E_INVALID_ARGUMENT;
    if (argc == 2 && strcmp(argv[1], "markdown") == 0) {
        error = admin_reference_markdown(&text);
    }
    if (argc == 2 && strcmp(argv[1], "man") == 0) {
        error = admin_reference_man(&text);
    }
    if (error == CAP_OK && fwrite(text.data, 1, text.len, stdout) != text.len) {
        error = CAP_E_IO;
    }
    if (error != CAP_OK) {
        fprintf(stderr, "usage: capstore_admin_doc markdown|man: %s\n", cap_error_text(error));
    }
    cap_buf_free(&text);
    return error == CAP_OK ? 0 : 2;
}
