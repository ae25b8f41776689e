/* Commands in threads. */
#include "daemon/admin/commands.h"

#include <stdlib.h>

#include "daemon/admin/limits.h"
#include "daemon/core/container.h"

enum cap_error admin_commands_open(struct admin_commands *commands, const struct env *env,
                                   struct shard *shard)
{
    STAILQ_INIT(&commands->waiting);
    commands->running = 0;
    enum cap_error error = pool_open(
        &commands->pool, env, &(struct pool_size){ADMIN_COMMANDS_MAX, ADMIN_COMMANDS_MAX, 100});
    if (error == CAP_OK) {
        error = pool_outlet_open(&commands->outlet, &commands->pool, &shard->loop, &shard->stats);
        if (error != CAP_OK) {
            pool_close(&commands->pool);
        }
    }
    return error;
}

void admin_commands_close(struct admin_commands *commands)
{
    pool_outlet_close(&commands->outlet);
}

void admin_commands_free(struct admin_commands *commands)
{
    pool_close(&commands->pool);
}

void admin_command_free(struct admin_command *command)
{
    jsonrpc_request_free(&command->request);
    admin_call_free(&command->call);
    cap_buf_free(&command->line);
    free(command);
}

static void write_answer(struct admin_command *command, json_t *result)
{
    if (command->request.id != NULL) { /* otherwise a notification */
        command->failed =
            jsonrpc_reply(command->request.id, result, &command->call.error, &command->line);
    }
}

/* Writing out a megabyte of JSON takes longer than the loop may take: it is the thread's part. */
void admin_command_run(struct admin_command *command)
{
    json_t *result = admin_call_run(&command->call);
    command->ran = true;
    command->succeeded = result != NULL;
    write_answer(command, result);
    json_decref(result);
}

void admin_command_refuse(struct admin_command *command)
{
    write_answer(command, NULL);
}

static void start_commands(struct admin_commands *commands);

static void on_work(struct pool_job *work)
{
    admin_command_run(CONTAINER_OF(work, struct admin_command, work));
}

static void on_work_done(struct pool_job *work)
{
    struct admin_command *command = CONTAINER_OF(work, struct admin_command, work);
    struct admin_commands *commands = command->commands;
    command->running = false;
    commands->running--;
    command->done(command);
    start_commands(commands);
}

static void start_commands(struct admin_commands *commands)
{
    while (!STAILQ_EMPTY(&commands->waiting) && commands->running < ADMIN_COMMANDS_MAX) {
        struct admin_command *command = STAILQ_FIRST(&commands->waiting);
        STAILQ_REMOVE_HEAD(&commands->waiting, link);
        command->work = (struct pool_job){.run = on_work, .done = on_work_done};
        command->running = true;
        commands->running++;
        pool_submit(&commands->outlet, &command->work);
    }
}

void admin_command_submit(struct admin_commands *commands, struct admin_command *command,
                          void (*done)(struct admin_command *command))
{
    command->commands = commands;
    command->done = done;
    STAILQ_INSERT_TAIL(&commands->waiting, command, link);
    start_commands(commands);
}

void admin_command_abandon(struct admin_command *command)
{
    command->connection = NULL;
    if (command->running) {
        return;
    }
    STAILQ_REMOVE(&command->commands->waiting, command, admin_command, link);
    admin_command_free(command);
}
