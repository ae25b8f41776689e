/*
 * Happy path. The writer runs one slice after another as errands, each a transaction of its own;
 * admissions go in between. Nothing is remembered from one slice to the next: the store's queue of
 * what is due is the state, so that a job that is cancelled or killed only leaves the rest for the
 * next one. The room of large bodies is given back by the writer's sweeps.
 *
 * Failure modes. A slice that fails ends the job with its error; all slices before it stay done.
 * Automatic collection that finds nothing to collect above gc-high tries again a minute later.
 */
#include "daemon/upkeep/gc.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/param.h>

#include "daemon/core/container.h"
#include "daemon/publish/writer.h"

#define SLICE_CAPS 128u               /* some milliseconds of the writer, its sync included */
#define LOOK_US    UINT64_C(1000000)  /* between two looks at the store's size */
#define SWEEP_US   UINT64_C(5000000)  /* after a run by itself: gigabytes are swept by then */
#define IDLE_US    UINT64_C(60000000) /* after a run by itself that found too little to collect */

struct gc {
    struct context *context;
    struct upkeep_jobs *jobs;
    struct writer *writer;
    _Atomic(uint64_t) runs;
    _Atomic(uint64_t) caps;
    _Atomic(uint64_t) bytes;
    _Atomic(uint64_t) rest_until_us; /* monotonic: no run by itself before */

    struct pool_job look; /* the main loop's, as is the rest */
    bool looking;
    uint64_t looked_us; /* monotonic */
};

struct collection {
    struct gc *gc;
    bool automatic;
    uint64_t goal;                /* automatic: bytes that are to go, from gc-high to gc-low */
    size_t max;                   /* of the next slice */
    struct cap_collected slice;   /* the last one */
    uint64_t caps, bytes, looked; /* so far */
};

/* Bytes that the pages in use take; false when nobody can say. */
static bool used_bytes(const struct gc *gc, uint64_t *ret_used)
{
    struct cap_space space;
    if (cap_store_space(gc->context->store, &space) != CAP_OK) {
        return false;
    }
    *ret_used = space.file_bytes - space.free_bytes;
    return true;
}

static uint64_t low_mark(const struct gc *gc)
{
    uint64_t high = gc->context->config.gc_high;
    uint64_t low = gc->context->config.gc_low;
    return low == 0 || low > high ? high / 10 * 9 : low;
}

/* --- The job ---------------------------------------------------------------------------------- */

/* On the writer's thread. */
static enum cap_error collect_slice(struct cap_store *store, void *ctx)
{
    struct collection *collection = ctx;
    return cap_store_collect(store, collection->max, &collection->slice);
}

/*
 * As many caps as will do, if they are as long as those so far: of the first nothing is known. The
 * room of long bodies is given back only by and by, so it is bodies that are counted.
 */
static size_t next_slice(const struct collection *collection)
{
    if (!collection->automatic) {
        return SLICE_CAPS;
    }
    if (collection->bytes == 0) {
        return 1 + (size_t)MIN(collection->looked, SLICE_CAPS - 1);
    }
    uint64_t mean = collection->bytes / collection->caps + 1;
    uint64_t left = collection->goal - collection->bytes;
    return (size_t)MAX(MIN(left / mean, SLICE_CAPS), 1);
}

static bool is_enough(const struct collection *collection)
{
    return !collection->slice.more ||
           (collection->automatic && collection->bytes >= collection->goal);
}

static enum cap_error collect(struct upkeep_job *job, struct collection *collection)
{
    struct gc *gc = collection->gc;
    do {
        if (atomic_load(&job->cancelled)) {
            return CAP_E_CANCELLED;
        }
        collection->max = next_slice(collection);
        enum cap_error error = writer_run(gc->writer, collect_slice, collection);
        if (error != CAP_OK) {
            return error;
        }
        collection->caps += collection->slice.caps;
        collection->bytes += collection->slice.bytes;
        collection->looked += collection->slice.looked_at;
        atomic_fetch_add(&gc->caps, collection->slice.caps);
        atomic_fetch_add(&gc->bytes, collection->slice.bytes);
        job_progress(job, collection->looked, 0, collection->bytes, 0, "collecting");
    } while (!is_enough(collection));
    return CAP_OK;
}

static enum cap_error run(struct upkeep_job *job, void *ctx)
{
    struct collection *collection = ctx;
    struct gc *gc = collection->gc;
    enum cap_error error = collect(job, collection);
    job_message(job, "%" PRIu64 " cap%s of %" PRIu64 " bytes went; looked at %" PRIu64,
                collection->caps, collection->caps == 1 ? "" : "s", collection->bytes,
                collection->looked);
    if (collection->automatic) {
        uint64_t rest_us = collection->bytes < collection->goal ? IDLE_US : SWEEP_US;
        atomic_store(&gc->rest_until_us, env_monotonic_us(gc->context->env) + rest_us);
    }
    atomic_fetch_add(&gc->runs, 1);
    free(collection);
    return error;
}

/* `goal`: bytes after which a collection by itself ends; 0: one that an operator starts. */
static enum cap_error start(struct gc *gc, uint64_t goal, uint64_t *ret_id)
{
    struct collection *collection = calloc(1, sizeof(*collection));
    if (collection == NULL) {
        return CAP_E_NO_MEMORY;
    }
    *collection = (struct collection){.gc = gc, .automatic = goal > 0, .goal = goal};
    enum cap_error error = upkeep_jobs_start(gc->jobs, UPKEEP_GC, run, collection, ret_id);
    if (error != CAP_OK) {
        free(collection);
    }
    return error;
}

enum cap_error gc_start(struct gc *gc, uint64_t *ret_id)
{
    return start(gc, 0, ret_id);
}

/* --- By itself -------------------------------------------------------------------------------- */

static void run_look(struct pool_job *job)
{
    struct gc *gc = CONTAINER_OF(job, struct gc, look);
    uint64_t used;
    if (used_bytes(gc, &used) && used >= gc->context->config.gc_high) {
        /* One that cannot start is tried again at the next look. */
        (void)start(gc, MAX(used - low_mark(gc), 1), NULL);
    }
}

static void on_looked(struct pool_job *job)
{
    CONTAINER_OF(job, struct gc, look)->looking = false;
}

void gc_tick(struct gc *gc, uint64_t now_us)
{
    struct upkeep_job_info running;
    if (gc->context->config.gc_high == 0 || gc->looking || now_us - gc->looked_us < LOOK_US ||
        now_us < atomic_load(&gc->rest_until_us) ||
        upkeep_jobs_running(gc->jobs, UPKEEP_GC, &running)) {
        return;
    }
    gc->looking = true;
    gc->looked_us = now_us;
    gc->look = (struct pool_job){.run = run_look, .done = on_looked};
    pool_submit(&gc->context->shards[0]->pool, &gc->look);
}

/* --- Beginning and end ------------------------------------------------------------------------ */

enum cap_error gc_new(struct context *context, struct upkeep_jobs *jobs, struct writer *writer,
                      struct gc **ret_gc)
{
    struct gc *gc = calloc(1, sizeof(*gc));
    if (gc == NULL) {
        return CAP_E_NO_MEMORY;
    }
    gc->context = context;
    gc->jobs = jobs;
    gc->writer = writer;
    *ret_gc = gc;
    return CAP_OK;
}

void gc_free(struct gc *gc)
{
    free(gc);
}

void gc_figures(struct gc *gc, struct gc_figures *ret_figures)
{
    *ret_figures = (struct gc_figures){
        .runs = atomic_load(&gc->runs),
        .caps = atomic_load(&gc->caps),
        .bytes = atomic_load(&gc->bytes),
    };
}
