/*
 * The table of methods as text for people: help lines, the reference in ADMIN.md, the man page.
 *
 * All functions append to the caller's buffer; CAP_E_NO_MEMORY may leave a part of it there.
 */
#ifndef DAEMON_ADMIN_REFERENCE_H
#define DAEMON_ADMIN_REFERENCE_H

#include "daemon/admin/methods.h"

/* Bytes of method->doc that are its first sentence, without the stop. */
size_t admin_summary_len(const struct admin_method *method);

/* One line: name, level, summary. */
enum cap_error admin_help_line(const struct admin_method *method, struct cap_buf *buf);

/* All about one method, for a terminal. */
enum cap_error admin_help_one(const struct admin_method *method, struct cap_buf *buf);

/* The reference of all methods as ADMIN.md has it, between its marks. */
enum cap_error admin_reference_markdown(struct cap_buf *buf);

/* The page capstore-admin(7). */
enum cap_error admin_reference_man(struct cap_buf *buf);

#endif
