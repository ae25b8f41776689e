/*
 * What start meets: addresses, the state directory, kernels and limits that lack something.
 *
 * Linked with --wrap for calls that are to fail: uv_thread_create, getsockopt, accept4.
 */
#include "tests/unit/support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/admin/level.h"
#include "daemon/core/statedir.h"
#include "daemon/net/acceptor.h"
#include "daemon/net/bind.h"
#include "daemon/server.h"
#include "tests/support/store_memory.h"

static bool threads_fail;
static int peer_groups_errno; /* 0: the kernel answers */

int real_uv_thread_create(uv_thread_t *thread, uv_thread_cb entry,
                          void *arg) __asm__("__real_uv_thread_create");
int wrap_uv_thread_create(uv_thread_t *thread, uv_thread_cb entry,
                          void *arg) __asm__("__wrap_uv_thread_create");
int real_getsockopt(int fd, int level, int name, void *value,
                    socklen_t *len) __asm__("__real_getsockopt");
int wrap_getsockopt(int fd, int level, int name, void *value,
                    socklen_t *len) __asm__("__wrap_getsockopt");

int wrap_uv_thread_create(uv_thread_t *thread, uv_thread_cb entry, void *arg)
{
    return threads_fail ? UV_EAGAIN : real_uv_thread_create(thread, entry, arg);
}

int wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    if (level == SOL_SOCKET && name == SO_PEERGROUPS && peer_groups_errno != 0) {
        errno = peer_groups_errno;
        return -1;
    }
    return real_getsockopt(fd, level, name, value, len);
}

int real_accept4(int fd, struct sockaddr *address, socklen_t *len,
                 int flags) __asm__("__real_accept4");
int wrap_accept4(int fd, struct sockaddr *address, socklen_t *len,
                 int flags) __asm__("__wrap_accept4");

static int accept_errno;      /* 0: the kernel answers */
static unsigned accept_calls; /* how often it was asked */

int wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    accept_calls++;
    if (accept_errno != 0) {
        errno = accept_errno;
        return -1;
    }
    return real_accept4(fd, address, len, flags);
}

static struct log quiet; /* writes to a descriptor that takes nothing */

/* The group and the permissions that a socket gets by itself. */
static const struct bind_access anyhow = {CONFIG_MODE_UMASK, BIND_OWN_GROUP};

/* --- Addresses ------------------------------------------------------------------------------ */

static void test_stale_socket_is_replaced_but_no_other_file(void **state)
{
    char dir[] = "/tmp/capstore-bind-XXXXXX";
    char address[64];
    char reason[CONFIG_REASON_SIZE];
    struct bound first;
    struct bound second;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(address, sizeof(address), "unix:%s/s", dir);
    assert_cap_ok(bind_address(address, &anyhow, &first, reason));
    /* Somebody serves it. */
    assert_true(bind_address(address, &anyhow, &second, reason) != CAP_OK);
    assert_non_null(strstr(reason, address + 5));
    /* Nobody does: it is stale. */
    close(first.fd);
    first.fd = -1;
    assert_cap_ok(bind_address(address, &anyhow, &second, reason));
    free(first.path);
    /* A path that has become somebody else's is not removed. */
    first = second;
    assert_int_equal(unlink(address + 5), 0);
    assert_cap_ok(bind_address(address, &anyhow, &second, reason));
    bound_release(&first);
    assert_int_equal(access(address + 5, F_OK), 0);
    bound_release(&second);
    assert_int_equal(access(address + 5, F_OK), -1);
    /* A file is left alone. */
    close(open(address + 5, O_CREAT | O_WRONLY, 0600));
    assert_true(bind_address(address, &anyhow, &second, reason) != CAP_OK);
    assert_int_equal(unlink(address + 5), 0);
    rmdir(dir);
}

static void test_socket_has_the_permissions_asked_for(void **state)
{
    static const struct {
        uint64_t wanted;
        mode_t umask;
        mode_t mode;
    } rows[] = {{0600, 0000, 0600},
                {0660, 0077, 0660},
                {0666, 0777, 0666},
                {CONFIG_MODE_UMASK, 0027, 0750}};
    char dir[] = "/tmp/capstore-mode-XXXXXX";
    char address[64];
    char reason[CONFIG_REASON_SIZE];
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(address, sizeof(address), "unix:%s/s", dir);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct bind_access access = {rows[i].wanted, getegid()};
        struct bound bound;
        struct stat st;
        mode_t before = umask(rows[i].umask);
        assert_cap_ok(bind_address(address, &access, &bound, reason));
        assert_int_equal(umask(before), rows[i].umask);
        assert_int_equal(stat(address + 5, &st), 0);
        assert_int_equal(st.st_mode & 0777, rows[i].mode);
        assert_int_equal(st.st_gid, getegid());
        bound_release(&bound);
    }
    rmdir(dir);
}

static void test_bad_addresses(void **state)
{
    static const char *const bad[] = {"",
                                      "unix:",
                                      "/path",
                                      "tcp:",
                                      "tcp:host",
                                      "tcp:127.0.0.1:",
                                      "tcp::5",
                                      "udp:127.0.0.1:5",
                                      "tcp:127.0.0.1:65536",
                                      "tcp:127.0.0.1:4295032832",
                                      "unix:@"};
    struct bound bound;
    char reason[CONFIG_REASON_SIZE];
    char long_path[256] = "unix:/";
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_cap_error(bind_address(bad[i], &anyhow, &bound, reason), CAP_E_INVALID_ARGUMENT);
    }
    memset(long_path + 6, 'x', 200);
    assert_cap_error(bind_address(long_path, &anyhow, &bound, reason), CAP_E_INVALID_ARGUMENT);
}

static void test_the_port_in_use_is_told(void **state)
{
    static const char *const hosts[] = {"tcp:127.0.0.1:", "tcp:[::1]:"};
    char reason[CONFIG_REASON_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        struct bound bound;
        struct bound again;
        struct sockaddr_storage own = {0};
        socklen_t len = sizeof(own);
        char asked[64];
        char told[64];
        snprintf(asked, sizeof(asked), "%s0", hosts[i]);
        if (bind_address(asked, &anyhow, &bound, reason) != CAP_OK) {
            assert_int_equal(i, 1); /* this machine may have no IPv6 */
            continue;
        }
        assert_int_equal(getsockname(bound.fd, (struct sockaddr *)&own, &len), 0);
        in_port_t port = own.ss_family == AF_INET ? ((struct sockaddr_in *)&own)->sin_port
                                                  : ((struct sockaddr_in6 *)&own)->sin6_port;
        snprintf(told, sizeof(told), "%s%u", hosts[i], (unsigned)ntohs(port));
        assert_string_equal(bound.address, told);
        assert_cap_ok(bind_inherit(bound.fd, &again, reason));
        assert_string_equal(again.address, told);
        bound_release(&bound);
    }
}

static void test_abstract_sockets(void **state)
{
    const struct bind_access with_mode = {0660, BIND_OWN_GROUP};
    const struct bind_access with_group = {CONFIG_MODE_UMASK, getegid()};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    char reason[CONFIG_REASON_SIZE];
    struct bound bound;
    struct bound second;
    (void)state;
    int len = snprintf(name, sizeof(name), "unix:@capstore-test-%ld", (long)getpid());
    assert_cap_ok(bind_address(name, &anyhow, &bound, reason));
    assert_string_equal(bound.address, name);
    assert_null(bound.path);
    memcpy(address.sun_path + 1, name + 6, (size_t)len - 6);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len - 5);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, size), 0);
    close(fd);
    assert_true(bind_address(name, &anyhow, &second, reason) != CAP_OK);
    bound_release(&bound);
    assert_cap_error(bind_address(name, &with_mode, &bound, reason), CAP_E_INVALID_ARGUMENT);
    assert_non_null(strstr(reason, "permissions"));
    assert_cap_error(bind_address(name, &with_group, &bound, reason), CAP_E_INVALID_ARGUMENT);
}

/* A daemon that has bound its socket and does not listen yet is not taken for a dead one. */
static void test_a_socket_that_starts_is_not_stale(void **state)
{
    char dir[] = "/tmp/capstore-race-XXXXXX";
    char address[64];
    char reason[CONFIG_REASON_SIZE];
    struct bound bound;
    int pipe_fds[2];
    char byte;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(address, sizeof(address), "unix:%s/s", dir);
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t other = fork();
    if (other == 0) {
        struct sockaddr_un sun = {.sun_family = AF_UNIX};
        int lock = open(dir, O_RDONLY | O_DIRECTORY);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        memcpy(sun.sun_path, address + 5, strlen(address + 5));
        bool ok = flock(lock, LOCK_EX) == 0 && bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0;
        ok = ok && write(pipe_fds[1], "b", 1) == 1;
        usleep(100000); /* however long this takes, the lock is held until it listens */
        ok = ok && listen(fd, 1) == 0 && flock(lock, LOCK_UN) == 0;
        pause();
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    assert_true(bind_address(address, &anyhow, &bound, reason) != CAP_OK);
    assert_non_null(strstr(reason, "in use"));
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    assert_cap_ok(bind_address(address, &anyhow, &bound, reason));
    bound_release(&bound);
    rmdir(dir);
}

struct accepted {
    unsigned count;
    unsigned pauses;
    enum cap_error error;
};

static void on_accepted(void *owner, int fd)
{
    ((struct accepted *)owner)->count++;
    close(fd);
}

static void on_paused(void *owner, enum cap_error error)
{
    ((struct accepted *)owner)->pauses++;
    ((struct accepted *)owner)->error = error;
}

static void on_acceptor_closed(struct acceptor *acceptor)
{
    ((struct accepted *)acceptor->owner)->count = 99;
}

/* Without descriptors the loop does not spin, says so once, and accepts when there are some. */
static void test_accepting_pauses_without_descriptors(void **state)
{
    static const int numbers[] = {EMFILE, ENFILE, ENOMEM, EPERM};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/capstore-accept-XXXXXX";
    char name[64];
    char reason[CONFIG_REASON_SIZE];
    struct bound bound;
    uv_loop_t loop;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(name, sizeof(name), "unix:%s/s", dir);
    memcpy(address.sun_path, name + 5, strlen(name + 5));
    assert_cap_ok(bind_address(name, &anyhow, &bound, reason));
    assert_int_equal(uv_loop_init(&loop), 0);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct accepted seen = {0};
        struct acceptor acceptor = {.fd = bound.fd,
                                    .turn_max = 4,
                                    .accepted = on_accepted,
                                    .paused = on_paused,
                                    .owner = &seen};
        accept_errno = numbers[i];
        assert_cap_ok(acceptor_open(&acceptor, &loop));
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        for (int ticks = 1; ticks <= 3; ticks++) {
            accept_calls = 0;
            for (int turns = 0; turns < 10; turns++) {
                uv_run(&loop, UV_RUN_NOWAIT);
            }
            assert_int_equal(accept_calls, 1); /* until the next tick */
            assert_int_equal(seen.pauses, 1);
            acceptor_tick(&acceptor);
        }
        accept_errno = 0;
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_int_equal(seen.count, 1);
        acceptor_close(&acceptor, on_acceptor_closed);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(seen.count, 99);
        close(fd);
    }
    assert_int_equal(uv_loop_close(&loop), 0);
    bound_release(&bound);
    rmdir(dir);
}

/* --- The state directory -------------------------------------------------------------------- */

static void test_state_is_private_locked_and_cleaned(void **state)
{
    char dir[] = "/tmp/capstore-state-XXXXXX";
    char path[128];
    char reason[CONFIG_REASON_SIZE];
    struct statedir *first = NULL;
    struct statedir *second = NULL;
    struct stat st;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/state", dir);
    assert_cap_ok(statedir_open(path, &quiet, &first, reason));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_cap_error(statedir_open(path, &quiet, &second, reason), CAP_E_STORE_LOCKED);
    assert_non_null(strstr(reason, path));
    assert_null(second);
    char left[256];
    snprintf(left, sizeof(left), "%s/upload-abc", first->spool_dir);
    close(open(left, O_CREAT | O_WRONLY, 0600));
    statedir_close(first);
    assert_cap_ok(statedir_open(path, &quiet, &first, reason));
    assert_int_equal(access(left, F_OK), -1);
    rmdir(first->spool_dir);
    rmdir(first->store_dir);
    statedir_close(first);
    snprintf(left, sizeof(left), "%s/lock", path);
    unlink(left);
    rmdir(path);
    rmdir(dir);
}

/* Somebody else could put links where the daemon writes. */
static void test_a_state_that_others_can_change_is_refused(void **state)
{
    static const struct {
        mode_t mode;
        bool refused;
        bool told;
    } rows[] = {{0700, false, false}, {0755, false, false}, {0770, false, true},
                {0777, true, false},  {01777, true, false}, {0702, true, false}};
    char dir[] = "/tmp/capstore-mode-XXXXXX";
    char path[64];
    char reason[CONFIG_REASON_SIZE];
    char line[1024];
    struct statedir *statedir = NULL;
    struct log log;
    int fds[2];
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    log_init(&log, env_system(), fds[1], false);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(chmod(dir, rows[i].mode), 0);
        enum cap_error error = statedir_open(dir, &log, &statedir, reason);
        assert_int_equal(error != CAP_OK, rows[i].refused);
        if (rows[i].refused) {
            assert_non_null(strstr(reason, "chmod 700"));
        } else {
            statedir_close(statedir);
        }
        ssize_t len = read(fds[0], line, sizeof(line));
        assert_int_equal(len > 0, rows[i].told);
    }
    if (geteuid() == 0) {
        assert_int_equal(chmod(dir, 0700), 0);
        assert_int_equal(chown(dir, 12345, (gid_t)-1), 0);
        assert_cap_error(statedir_open(dir, &log, &statedir, reason), CAP_E_INVALID_ARGUMENT);
        assert_non_null(strstr(reason, "12345"));
        assert_int_equal(chown(dir, 0, (gid_t)-1), 0);
    }
    snprintf(path, sizeof(path), "%s/store", dir);
    assert_int_equal(chmod(dir, 0700), 0);
    assert_int_equal(chmod(path, 0777), 0);
    assert_cap_error(statedir_open(dir, &log, &statedir, reason), CAP_E_INVALID_ARGUMENT);
    assert_non_null(strstr(reason, path));
    close(fds[0]);
    close(fds[1]);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/spool", dir);
    rmdir(path);
    snprintf(path, sizeof(path), "%s/lock", dir);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

/* --- The kernel ------------------------------------------------------------------------------- */

/* gVisor has no SO_PEERGROUPS: user and primary group then decide. */
static void test_levels_without_supplementary_groups(void **state)
{
    static const int numbers[] = {ENOPROTOOPT, EOPNOTSUPP, EINVAL, ENOSYS, ERANGE, EPERM};
    const struct admin_group own = {.exists = true, .gid = getegid()};
    const struct admin_group none = {.exists = false};
    enum admin_level level;
    struct peer peer;
    bool complete = true;
    int fds[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_cap_ok(peer_of(fds[0], 64, &peer));
    assert_cap_ok(admin_level_read(fds[0], &peer, &none, &level, &complete));
    assert_true(complete);
    assert_int_equal(level, ADMIN_ADMIN);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        peer_groups_errno = numbers[i];
        assert_cap_ok(admin_level_read(fds[0], &peer, &none, &level, &complete));
        assert_false(complete);
        assert_int_equal(level, ADMIN_ADMIN);
        struct peer other = peer;
        other.uid = geteuid() + 1;
        assert_cap_ok(admin_level_read(fds[0], &other, &own, &level, &complete));
        assert_int_equal(level, ADMIN_OPERATE);
        other.gid = getegid() + 1;
        assert_cap_ok(admin_level_read(fds[0], &other, &own, &level, &complete));
        assert_int_equal(level, ADMIN_OBSERVE);
    }
    peer_groups_errno = 0;
    close(fds[0]);
    close(fds[1]);
}

/* A thread that cannot start is an error, also while systemd's watchdog waits to be fed. */
static void test_no_thread_for_the_writer(void **state)
{
    static const uint8_t id[CAP_STORE_ID_SIZE] = "start test store";
    static struct server server;
    char dir[] = "/tmp/capstore-start-XXXXXX";
    static const char *const names[] = {"lock", "store", "spool"};
    char path[64];
    char reason[CONFIG_REASON_SIZE];
    struct cap_store *store = NULL;
    struct config config;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_cap_ok(cap_store_memory_new(id, 1 << 20, &store));
    config_init(&config);
    config.state = strdup(dir);
    snprintf(path, sizeof(path), "unix:%s/s", dir);
    config.listen[0] = strdup(path);
    config.listen_count = 1;
    setenv("WATCHDOG_USEC", "1000000", 1);
    threads_fail = true;
    assert_cap_error(server_start(&server, env_system(), &config, store, reason), CAP_E_NO_MEMORY);
    threads_fail = false;
    unsetenv("WATCHDOG_USEC");
    cap_store_close(store);
    config_free(&config);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        (void)remove(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    log_init(&quiet, env_system(), -1, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stale_socket_is_replaced_but_no_other_file),
        cmocka_unit_test(test_socket_has_the_permissions_asked_for),
        cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_the_port_in_use_is_told),
        cmocka_unit_test(test_abstract_sockets),
        cmocka_unit_test(test_a_socket_that_starts_is_not_stale),
        cmocka_unit_test(test_accepting_pauses_without_descriptors),
        cmocka_unit_test(test_state_is_private_locked_and_cleaned),
        cmocka_unit_test(test_a_state_that_others_can_change_is_refused),
        cmocka_unit_test(test_levels_without_supplementary_groups),
        cmocka_unit_test(test_no_thread_for_the_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
