#include "daemon/net/acceptor.h"

#include <errno.h>
#include <sys/socket.h>

#include "daemon/core/container.h"
#include "daemon/core/oserror.h"

static void on_connection(uv_poll_t *poll, int status, int events);

static void resume(struct acceptor *acceptor)
{
    acceptor->accepting = true;
    (void)uv_poll_start(&acceptor->poll, UV_READABLE, on_connection);
}

static void pause_accepting(struct acceptor *acceptor, int number)
{
    acceptor->accepting = false;
    (void)uv_poll_stop(&acceptor->poll);
    if (!acceptor->told) {
        acceptor->told = true;
        acceptor->paused(acceptor->owner, error_of_errno(number));
    }
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct acceptor *acceptor = CONTAINER_OF(poll, struct acceptor, poll);
    (void)status;
    (void)events;
    for (unsigned i = 0; i < acceptor->turn_max && acceptor->accepting; i++) {
        int fd = accept4(acceptor->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            acceptor->told = false;
            acceptor->accepted(acceptor->owner, fd);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            pause_accepting(acceptor, errno);
        }
    }
}

enum cap_error acceptor_open(struct acceptor *acceptor, uv_loop_t *loop)
{
    if (uv_poll_init(loop, &acceptor->poll, acceptor->fd) != 0) {
        return CAP_E_NO_MEMORY;
    }
    resume(acceptor);
    return CAP_OK;
}

void acceptor_tick(struct acceptor *acceptor)
{
    if (!acceptor->accepting) {
        resume(acceptor);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct acceptor *acceptor = CONTAINER_OF((uv_poll_t *)handle, struct acceptor, poll);
    acceptor->closed(acceptor);
}

void acceptor_close(struct acceptor *acceptor, void (*closed)(struct acceptor *acceptor))
{
    acceptor->accepting = false;
    acceptor->closed = closed;
    uv_close((uv_handle_t *)&acceptor->poll, on_closed);
}
