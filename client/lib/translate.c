/* The messages of the handle: each request becomes a task. */
#include "client/lib/translate.h"

#include <stdlib.h>

static struct client_task *linked_task(struct client_link *link)
{
    void *start = link == NULL ? NULL : (char *)link - offsetof(struct client_task, link);
    return (struct client_task *)start;
}

static struct client_task *find_task(const struct client_translator *translator, uint32_t id)
{
    const struct client_link *tasks = &translator->tasks;
    for (struct client_link *link = tasks->next; link != tasks; link = link->next) {
        if (linked_task(link)->id == id) {
            return linked_task(link);
        }
    }
    return NULL;
}

static enum cap_error begin_task(struct client_task *task, struct cap_bytes payload)
{
    switch ((uint8_t)task->type) {
    case PROTO_HELLO:
        return client_begin_hello(task);
    case PROTO_HAS:
        return client_begin_has(task, payload);
    case PROTO_GET:
        return client_begin_get(task, payload);
    case PROTO_STAT:
        return client_begin_stat(task, payload);
    case PROTO_SLICE:
        return client_begin_slice(task, payload);
    default:
        return client_begin_closure(task, payload);
    }
}

static bool is_served(uint8_t type)
{
    return type == PROTO_HELLO || type == PROTO_HAS || type == PROTO_GET || type == PROTO_STAT ||
           type == PROTO_SLICE || type == PROTO_CLOSURE;
}

static enum cap_error take_request(struct client_translator *translator,
                                   const struct proto_event *event)
{
    uint32_t id = event->frame.id;
    if ((id == 0) != (event->frame.type == PROTO_HELLO) || find_task(translator, id) != NULL) {
        return CAP_E_BAD_FRAME;
    }
    if (!is_served(event->frame.type)) {
        client_translator_refuse(
            translator, id, CAP_E_NOT_SUPPORTED,
            "HTTP only reads; to publish, keep or map, connect to a capstore address, such "
            "as unix:PATH or tcp:HOST:PORT");
        return CAP_OK;
    }
    if (translator->task_count == CLIENT_TASKS_MOST) {
        client_translator_refuse(translator, id, CAP_E_TOO_MANY_REQUESTS, "");
        return CAP_OK;
    }
    struct client_task *task = calloc(1, sizeof(*task));
    if (task == NULL) {
        return CAP_E_NO_MEMORY;
    }
    task->translator = translator;
    task->id = id;
    task->type = (enum proto_type)event->frame.type;
    client_list_init(&task->parts);
    client_list_add(&translator->tasks, &task->link);
    translator->task_count++;
    enum cap_error error = begin_task(task, event->bytes);
    if (error != CAP_OK) { /* it has not ended by itself then */
        client_task_fail(task, error, "");
    }
    return CAP_OK;
}

enum cap_error client_translate(struct client_translator *translator,
                                const struct proto_event *event)
{
    struct client_task *task;
    switch (event->frame.type) {
    case PROTO_BODY: /* of an upload, which is refused */
        return CAP_OK;
    case PROTO_CANCEL:
        task = find_task(translator, event->frame.id);
        if (task != NULL) {
            client_task_fail(task, CAP_E_CANCELLED, "");
        }
        return CAP_OK;
    default:
        return take_request(translator, event);
    }
}

enum cap_error client_translator_init(struct client_translator *translator, CURLM *multi,
                                      const char *base, const char *agent, uint32_t timeout_ms,
                                      struct cap_buf *out)
{
    *translator = (struct client_translator){.base = strdup(base), .out = out};
    client_transfers_init(&translator->transfers, multi, agent, timeout_ms);
    client_list_init(&translator->tasks);
    if (translator->base == NULL) {
        return CAP_E_NO_MEMORY;
    }
    size_t len = strlen(base);
    while (len > 0 && translator->base[len - 1] == '/') {
        translator->base[--len] = '\0';
    }
    return CAP_OK;
}

void client_translator_free(struct client_translator *translator)
{
    struct client_task *task;
    while ((task = linked_task(client_list_first(&translator->tasks))) != NULL) {
        client_task_end(task);
    }
    free(translator->base);
}
