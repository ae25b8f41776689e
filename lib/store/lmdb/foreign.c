/* What is not ours: file systems of other machines, processes that read the store's files. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/store/lmdb/lmdb.h"
#include "lib/store/store.h"

/*
 * One line of LMDB's table of readers: process, thread, transaction; the last is "-" where a slot
 * is taken and nothing is read. The headings do not begin with a number.
 */
static int look_at_line(const char *line, void *ctx)
{
    uint64_t *ret_pid = ctx;
    char *thread = NULL;
    uint64_t pid = strtoull(line, &thread, 10);
    thread += strspn(thread, " ");
    const char *transaction = thread + strcspn(thread, " ");
    transaction += strspn(transaction, " ");
    if (pid != 0 && pid != (uint64_t)getpid() && transaction[0] != '-') {
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

bool cap_store_lmdb_is_remote(const char *dir)
{
    struct statfs fs;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool remote = fd >= 0 && fstatfs(fd, &fs) == 0 && lmdb_is_network(fs.f_type);
    if (fd >= 0) {
        close(fd);
    }
    return remote;
}
