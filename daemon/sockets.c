/*
 * Listening.
 *
 * Happy path: sockets that systemd passed come first, then those of --listen and --http, then that
 * of
 * --admin unless systemd passed one. Then the address file is written.
 *
 * Failure modes: any of them ends the start, with a sentence; what was opened is closed.
 */
#include "daemon/sockets.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/core/oserror.h"
#include "daemon/core/sd.h"
#include "daemon/http/http.h"
#include "daemon/net/accept.h"
#include "daemon/net/speaker.h"

void sockets_init(struct sockets *sockets, struct context *context)
{
    *sockets = (struct sockets){.context = context, .admin = {.fd = -1}};
}

static enum cap_error refuse_no_address(char *reason)
{
    snprintf(reason, CONFIG_REASON_SIZE, "listen: no address given; see --help");
    return CAP_E_INVALID_ARGUMENT;
}

static enum cap_error refuse_http(char *reason)
{
    snprintf(reason, CONFIG_REASON_SIZE,
             "http: this capstored was built without HTTP (CAPSTORE_HTTP)");
    return CAP_E_NOT_SUPPORTED;
}

static enum cap_error check_http(const char *address, const struct bind_access *access,
                                 char *reason)
{
    char why[CONFIG_REASON_SIZE];
    if (!http_is_built()) {
        return refuse_http(reason);
    }
    enum cap_error error = bind_check(address, access, why);
    if (error != CAP_OK) {
        snprintf(reason, CONFIG_REASON_SIZE, "http: %.300s", why);
    }
    return error;
}

enum cap_error sockets_check_admin(const char *address, const struct bind_access *access,
                                   char ret_reason[CONFIG_REASON_SIZE])
{
    if (strncmp(address, "unix:", 5) != 0) {
        snprintf(ret_reason, CONFIG_REASON_SIZE, "admin: %.120s: expected unix:PATH", address);
        return CAP_E_INVALID_ARGUMENT;
    }
    return bind_check(address, access, ret_reason);
}

enum cap_error sockets_check(const struct config *config, char ret_reason[CONFIG_REASON_SIZE])
{
    const struct bind_access clients = {config->listen_mode, BIND_OWN_GROUP};
    const struct bind_access operators = {0600, BIND_OWN_GROUP};
    enum cap_error error = CAP_OK;
    if (config->admin != NULL) {
        error = sockets_check_admin(config->admin, &operators, ret_reason);
    }
    for (size_t i = 0; error == CAP_OK && i < config->listen_count; i++) {
        error = bind_check(config->listen[i], &clients, ret_reason);
    }
    if (error == CAP_OK && config->http != NULL) {
        error = check_http(config->http, &clients, ret_reason);
    }
    if (error == CAP_OK && config->listen_count == 0 && sd_listen_count() == 0) {
        error = refuse_no_address(ret_reason);
    }
    return error;
}

/* Serves clients on a socket, which is taken over in every case. */
static enum cap_error add_listener(struct sockets *sockets, struct hub *hub, struct bound *bound,
                                   char *reason)
{
    struct context *context = sockets->context;
    enum cap_error error = CAP_E_INVALID_ARGUMENT;
    if (sockets->count == SOCKETS_MAX) {
        snprintf(reason, CONFIG_REASON_SIZE, "more than %u sockets to listen on", SOCKETS_MAX);
    } else {
        error = listener_start(hub, &session_door, bound, &sockets->listeners[sockets->count]);
    }
    if (error != CAP_OK) {
        bound_release(bound);
        return error;
    }
    sockets->count++;
    memcpy(context->addresses[context->address_count++], bound->address, sizeof(bound->address));
    return CAP_OK;
}

/* A second admin socket must not be served to clients. */
static enum cap_error take_admin(struct sockets *sockets, struct bound *bound, char *reason)
{
    if (sockets->admin.fd >= 0) {
        snprintf(reason, CONFIG_REASON_SIZE, "more than one inherited socket is named admin");
        bound_release(bound);
        return CAP_E_INVALID_ARGUMENT;
    }
    sockets->admin = *bound;
    return CAP_OK;
}

/* Keeps a socket for HTTP until there is a room for it. */
static enum cap_error take_http(struct sockets *sockets, struct bound *bound, char *reason)
{
    enum cap_error error = CAP_OK;
    if (!http_is_built()) {
        error = refuse_http(reason);
    } else if (sockets->http_count == SOCKETS_MAX) {
        snprintf(reason, CONFIG_REASON_SIZE, "more than %u sockets for HTTP", SOCKETS_MAX);
        error = CAP_E_INVALID_ARGUMENT;
    }
    if (error != CAP_OK) {
        bound_release(bound);
        return error;
    }
    sockets->http[sockets->http_count++] = *bound;
    return CAP_OK;
}

/* A socket that systemd passed, by its name. */
static enum cap_error take_named(struct sockets *sockets, struct hub *hub, const char *name,
                                 struct bound *bound, char *reason)
{
    if (strcmp(name, "admin") == 0) {
        return take_admin(sockets, bound, reason);
    }
    if (strcmp(name, "http") == 0) {
        return take_http(sockets, bound, reason);
    }
    return add_listener(sockets, hub, bound, reason);
}

/* Sockets that systemd passed: those named "admin" and "http" are that, others serve clients. */
static enum cap_error take_inherited(struct sockets *sockets, struct hub *hub, char *reason)
{
    int count = sd_listen_count();
    if (count > (int)SOCKETS_MAX + 1) {
        snprintf(reason, CONFIG_REASON_SIZE, "LISTEN_FDS passes %d sockets; at most %u are served",
                 count, SOCKETS_MAX + 1);
        return CAP_E_INVALID_ARGUMENT;
    }
    for (int i = 0; i < count; i++) {
        char name[SD_NAME_SIZE];
        struct bound bound;
        sd_listen_name(i, name);
        enum cap_error error = bind_inherit(SD_LISTEN_FDS_START + i, &bound, reason);
        if (error == CAP_OK) {
            error = take_named(sockets, hub, name, &bound, reason);
        }
        if (error != CAP_OK) {
            return error;
        }
    }
    if (count > 0 && sockets->admin.fd < 0) {
        bool other = sockets->context->config.admin != NULL;
        log_event(&sockets->context->log, other ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
                  log_name("no_admin_socket_passed"), log_number("sockets", (uint64_t)count),
                  log_text("message", "no socket passed by systemd is named admin "
                                      "(FileDescriptorName=admin): all of them serve clients"));
    }
    return CAP_OK;
}

enum cap_error sockets_open(struct sockets *sockets, struct hub *hub,
                            const struct bind_access *admin, char ret_reason[CONFIG_REASON_SIZE])
{
    const struct config *config = &sockets->context->config;
    const struct bind_access clients = {.mode = config->listen_mode, .group = BIND_OWN_GROUP};
    enum cap_error error = take_inherited(sockets, hub, ret_reason);
    for (size_t i = 0; error == CAP_OK && i < config->listen_count; i++) {
        struct bound bound;
        error = bind_address(config->listen[i], &clients, &bound, ret_reason);
        if (error == CAP_OK) {
            error = add_listener(sockets, hub, &bound, ret_reason);
        }
    }
    if (error == CAP_OK && config->http != NULL) {
        struct bound bound;
        error = check_http(config->http, &clients, ret_reason);
        if (error == CAP_OK) {
            error = bind_address(config->http, &clients, &bound, ret_reason);
        }
        if (error == CAP_OK) {
            error = take_http(sockets, &bound, ret_reason);
        }
    }
    if (error == CAP_OK && sockets->count == 0) {
        error = refuse_no_address(ret_reason);
    }
    if (error == CAP_OK && sockets->admin.fd < 0 && config->admin != NULL) {
        error = bind_address(config->admin, admin, &sockets->admin, ret_reason);
    }
    return error;
}

enum cap_error sockets_write_addresses(struct sockets *sockets, char ret_reason[CONFIG_REASON_SIZE])
{
    const struct context *context = sockets->context;
    const char *path = context->config.address_file;
    char draft[CONFIG_TEXT_SIZE];
    struct stat found;
    if (path == NULL) {
        return CAP_OK;
    }
    if (lstat(path, &found) == 0 && !S_ISREG(found.st_mode)) { /* /dev/null stays what it is */
        snprintf(ret_reason, CONFIG_REASON_SIZE,
                 "address-file: %.200s exists and is not a regular file; move it away, or give "
                 "another path",
                 path);
        return CAP_E_IO;
    }
    /* Under another name first. */
    int len = snprintf(draft, sizeof(draft), "%s.new", path);
    FILE *file = len > 0 && len < (int)sizeof(draft) ? fopen(draft, "we") : NULL;
    bool written = file != NULL;
    for (size_t i = 0; written && i < context->address_count; i++) {
        written = fprintf(file, "%s\n", context->addresses[i]) > 0;
    }
    if (file != NULL) {
        written = fclose(file) == 0 && written;
    }
    if (written && rename(draft, path) == 0) {
        sockets->address_file_written = true;
        return CAP_OK;
    }
    int number = errno;
    (void)unlink(draft);
    snprintf(ret_reason, CONFIG_REASON_SIZE, "address-file: cannot write %.200s: %s", path,
             strerror(number));
    return error_of_errno(number);
}

void sockets_log(const struct sockets *sockets)
{
    struct context *context = sockets->context;
    for (size_t i = 0; i < context->address_count; i++) {
        log_event(&context->log, LOG_LEVEL_INFO, log_name("listening"),
                  log_text("address", context->addresses[i]));
    }
    for (size_t i = 0; i < sockets->http_count; i++) {
        log_event(&context->log, LOG_LEVEL_INFO, log_name("http_listening"),
                  log_text("address", sockets->http[i].address));
    }
    if (sockets->admin.address[0] != '\0') {
        log_event(&context->log, LOG_LEVEL_INFO, log_name("admin_listening"),
                  log_text("address", sockets->admin.address));
    }
}

void sockets_tick(struct sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++) {
        listener_resume(sockets->listeners[i]);
    }
}

void sockets_close_clients(struct sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++) {
        listener_close(sockets->listeners[i]);
    }
    sockets->count = 0;
}

void sockets_close(struct sockets *sockets)
{
    const struct context *context = sockets->context;
    if (sockets->address_file_written) {
        (void)unlink(context->config.address_file);
    }
    sockets_close_clients(sockets);
    for (size_t i = 0; i < sockets->http_count && !sockets->http_taken; i++) {
        bound_release(&sockets->http[i]);
    }
    bound_release(&sockets->admin);
}
