/* Processes that read the store's files beside us. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/store/lmdb/lmdb.h"

/*
 * One line of LMDB's table of readers: process, thread, transaction; the last is "-" where a slot
 * is taken and nothing is read. The headings do not begin with a number.
 */
static int look_at_line(const char *line, void *ctx)
{
    uint64_t *ret_pid = ctx;
    uint64_t pid;
    char thread[40];
    char transaction[40];
    if (sscanf(line, "%" SCNu64 " %39s %39s", &pid, thread, transaction) == 3 &&
        pid != (uint64_t)getpid() && transaction[0] != '-') {
        *ret_pid = pid;
    }
    return 0;
}

uint64_t lmdb_foreign_reader(struct lmdb_store *store)
{
    uint64_t pid = 0;
    (void)mdb_reader_list(store->env, look_at_line, &pid);
    return pid;
}
