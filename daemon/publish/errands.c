/* The queue of functions that other threads have the writer run. */
#include "daemon/publish/errands.h"

enum cap_error errands_init(struct errands *errands)
{
    *errands = (struct errands){0};
    STAILQ_INIT(&errands->queue);
    if (uv_mutex_init(&errands->lock) != 0) {
        return CAP_E_NO_MEMORY;
    }
    if (uv_cond_init(&errands->over) != 0) {
        uv_mutex_destroy(&errands->lock);
        return CAP_E_NO_MEMORY;
    }
    return CAP_OK;
}

void errands_free(struct errands *errands)
{
    uv_cond_destroy(&errands->over);
    uv_mutex_destroy(&errands->lock);
}

/* Its thread takes it back. Under the lock. */
static void end(struct errands *errands, struct errand *errand, enum cap_error error)
{
    errand->error = error;
    errand->over = true;
    uv_cond_broadcast(&errands->over);
}

/* The oldest, taken off the queue, or NULL. Under the lock. */
static struct errand *next(struct errands *errands)
{
    struct errand *errand = STAILQ_FIRST(&errands->queue);
    if (errand != NULL) {
        STAILQ_REMOVE_HEAD(&errands->queue, link);
        atomic_fetch_sub(&errands->waiting, 1);
    }
    return errand;
}

void errands_add(struct errands *errands, struct errand *errand)
{
    uv_mutex_lock(&errands->lock);
    errand->over = false;
    if (errands->closed) {
        end(errands, errand, CAP_E_CANCELLED);
    } else {
        STAILQ_INSERT_TAIL(&errands->queue, errand, link);
        atomic_fetch_add(&errands->waiting, 1);
    }
    uv_mutex_unlock(&errands->lock);
}

enum cap_error errands_await(struct errands *errands, struct errand *errand)
{
    uv_mutex_lock(&errands->lock);
    while (!errand->over) {
        uv_cond_wait(&errands->over, &errands->lock);
    }
    uv_mutex_unlock(&errands->lock);
    return errand->error;
}

void errands_run_one(struct errands *errands, struct cap_store *store)
{
    uv_mutex_lock(&errands->lock);
    struct errand *errand = next(errands);
    uv_mutex_unlock(&errands->lock);
    if (errand == NULL) {
        return;
    }
    enum cap_error error = errand->run(store, errand->ctx);
    uv_mutex_lock(&errands->lock);
    end(errands, errand, error);
    uv_mutex_unlock(&errands->lock);
}

void errands_close(struct errands *errands)
{
    uv_mutex_lock(&errands->lock);
    errands->closed = true;
    for (struct errand *errand = next(errands); errand != NULL; errand = next(errands)) {
        end(errands, errand, CAP_E_CANCELLED);
    }
    uv_mutex_unlock(&errands->lock);
}
