#include "client/lib/verify.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "lib/cap/must.h"

/* Hashed between two looks at what the handle's thread says: a millisecond. */
#define STEP ((size_t)1 << 20)

/* A body from here on is worth a thread: starting one takes as long as hashing a twentieth of it.
 */
#define THREAD_FROM (UINT64_C(1) << 20)

struct client_verify {
    struct cap_verifier *verifier; /* of the thread while `busy` */
    bool own_thread;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* anything below */
    struct cap_bytes front; /* what may be read; empty: nothing */
    size_t taken;           /* bytes that were hashed */
    bool busy;
    bool stop;
    enum cap_error error; /* the first failure; nothing is hashed after it */
};

static void *hash(void *ctx)
{
    struct client_verify *verify = ctx;
    pthread_mutex_lock(&verify->lock);
    while (!verify->stop) {
        struct cap_bytes front = verify->front;
        if (front.len <= verify->taken || verify->error != CAP_OK) {
            pthread_cond_wait(&verify->changed, &verify->lock);
            continue;
        }
        if (front.len - verify->taken > STEP) {
            front.len = verify->taken + STEP;
        }
        verify->busy = true;
        pthread_mutex_unlock(&verify->lock);
        enum cap_error error = cap_verifier_take(verify->verifier, front);
        pthread_mutex_lock(&verify->lock);
        verify->busy = false;
        verify->taken = front.len;
        verify->error = error;
        pthread_cond_broadcast(&verify->changed);
    }
    pthread_mutex_unlock(&verify->lock);
    return NULL;
}

/* Starts the thread, which takes no signal: they are the program's. */
static bool start(struct client_verify *verify)
{
    sigset_t all;
    sigset_t before;
    if (pthread_mutex_init(&verify->lock, NULL) != 0) {
        return false;
    }
    if (pthread_cond_init(&verify->changed, NULL) != 0) {
        pthread_mutex_destroy(&verify->lock);
        return false;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&verify->thread, NULL, hash, verify);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        pthread_cond_destroy(&verify->changed);
        pthread_mutex_destroy(&verify->lock);
    }
    return code == 0;
}

enum cap_error client_verify_new(uint64_t body_len, bool may_thread,
                                 struct client_verify **ret_verify)
{
    struct client_verify *verify = calloc(1, sizeof(*verify));
    if (verify == NULL) {
        return CAP_E_NO_MEMORY;
    }
    enum cap_error error = cap_verifier_new(body_len, &verify->verifier);
    if (error != CAP_OK) {
        free(verify);
        return error;
    }
    verify->own_thread = may_thread && body_len >= THREAD_FROM && start(verify);
    *ret_verify = verify;
    return CAP_OK;
}

enum cap_error client_verify_take(struct client_verify *verify, struct cap_bytes front)
{
    if (!verify->own_thread) {
        return cap_verifier_take(verify->verifier, front);
    }
    pthread_mutex_lock(&verify->lock);
    verify->front = front;
    enum cap_error error = verify->error;
    if (!verify->busy) { /* else it looks again by itself */
        pthread_cond_broadcast(&verify->changed);
    }
    pthread_mutex_unlock(&verify->lock);
    return error;
}

void client_verify_pause(struct client_verify *verify)
{
    if (verify == NULL || !verify->own_thread) {
        return;
    }
    pthread_mutex_lock(&verify->lock);
    verify->front = (struct cap_bytes){NULL, 0};
    while (verify->busy) {
        pthread_cond_wait(&verify->changed, &verify->lock);
    }
    pthread_mutex_unlock(&verify->lock);
}

enum cap_error client_verify_finish(struct client_verify *verify, struct cap_bytes body,
                                    enum cap_kind *ret_kind, struct cap_hash *ret_hash)
{
    client_verify_pause(verify);
    /* The thread has nothing to read any more: the verifier is this thread's. */
    return verify->error == CAP_OK ? cap_verifier_finish(verify->verifier, body, ret_kind, ret_hash)
                                   : verify->error;
}

void client_verify_free(struct client_verify *verify)
{
    if (verify == NULL) {
        return;
    }
    if (verify->own_thread) {
        pthread_mutex_lock(&verify->lock);
        verify->stop = true;
        pthread_cond_broadcast(&verify->changed);
        pthread_mutex_unlock(&verify->lock);
        must(pthread_join(verify->thread, NULL) == 0);
        pthread_cond_destroy(&verify->changed);
        pthread_mutex_destroy(&verify->lock);
    }
    cap_verifier_free(verify->verifier);
    free(verify);
}
