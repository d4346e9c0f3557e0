/* GET /state, /load?..., /fault?... and /panic: every request is checked whole before anything of it is done. */
#define _GNU_SOURCE
#include "labguest.h"

#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUEST 2048
#define MAX_MB 1048576.0
#define TIMEOUT_S 5
#define ABSENT (-1.0)

/* Numbers of a /load request in MB or MB/s; ABSENT: not named. */
struct wish {
    double dirty_mb_s, working_set_mb, fill_mb, disk, disk_mb, rate_mb_s, verify;
    bool fill_named, touch;
};

static void answer(int connection, const char *status, const char *body)
{
    char text[3072];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                          "Connection: close\r\n\r\n%s",
                          status, strlen(body), body);
    for (ssize_t sent = 0, n; sent < length; sent += n)
        if ((n = send(connection, text + sent, (size_t)(length - sent), MSG_NOSIGNAL)) <= 0)
            return;
}

static void refuse(int connection, const char *status, const char *why)
{
    char body[256];
    snprintf(body, sizeof body, "{\"error\": \"%s\"}\n", why);
    answer(connection, status, body);
}

static void read_line(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = 0;
    text[strcspn(text, " \n")] = 0;
}

static const char *disk_json(char *text, size_t size)
{
    const struct disk_state *d = &disk_state;
    const char *error = d->last_error;
    snprintf(text, size,
             "{\"running\": %s, \"size_bytes\": %lu, \"area_bytes\": %lu, \"rate_bps\": %lu, \"last_sequence\": %lu, "
             "\"blocks_written\": %lu, \"blocks_verified\": %lu, \"errors\": %lu, \"io_errors\": %lu, "
             "\"mismatches\": %lu, \"last_error\": %s%s%s, \"longest_write_ms\": %lu}",
             d->running ? "true" : "false", d->size_bytes, d->area_bytes, d->rate_bps, d->last_sequence,
             d->blocks_written, d->blocks_verified, d->io_errors + d->mismatches, d->io_errors, d->mismatches,
             error ? "\"" : "", error ? error : "null", error ? "\"" : "", d->longest_write_ms);
    return text;
}

static void answer_state(int connection, const char *extra)
{
    char body[2560], boot_id[64], uptime[32], disk[768];
    const struct memory_state *m = &memory_state;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    read_line("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
    read_line("/proc/uptime", uptime, sizeof uptime);
    snprintf(body, sizeof body,
             "{\"boot_id\": \"%s\", \"uptime_s\": %s, \"clock_s\": %ld.%03ld, \"counter\": %lu, "
             "\"dirty\": {\"rate_bps\": %lu, \"achieved_bps\": %lu, \"working_set_bytes\": %lu, "
             "\"dirtied_bytes\": %lu}, \"fill_bytes\": %lu, \"disk\": %s, "
             "\"memory\": {\"total_bytes\": %lu, \"available_bytes\": %lu}%s}\n",
             boot_id, uptime, now.tv_sec, now.tv_nsec / 1000000, ticks, m->rate_bps, m->achieved_bps,
             m->working_set_bytes, m->dirtied_bytes, m->fill_bytes, disk_json(disk, sizeof disk),
             meminfo_bytes("MemTotal"), meminfo_bytes("MemAvailable"), extra);
    answer(connection, "200 OK", body);
}

static bool parse_number(const char *text, double *value)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !isfinite(number) || number < 0 || number > MAX_MB)
        return false;
    *value = number;
    return true;
}

static bool parse_pair(const char *name, const char *value, struct wish *wish)
{
    const struct {
        const char *name;
        double *number;
    } numbers[] = {{"dirty_mb_s", &wish->dirty_mb_s}, {"working_set_mb", &wish->working_set_mb},
                   {"fill_mb", &wish->fill_mb},       {"disk", &wish->disk},
                   {"disk_mb", &wish->disk_mb},       {"rate_mb_s", &wish->rate_mb_s},
                   {"verify", &wish->verify}};
    if (!strcmp(name, "fill")) {
        wish->fill_named = true;
        wish->touch = !strcmp(value, "touch");
        return wish->touch || !strcmp(value, "random");
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(name, numbers[i].name))
            return parse_number(value, numbers[i].number);
    return false;
}

static bool parse_wish(char *query, struct wish *wish)
{
    char *rest = query, *pair;
    *wish = (struct wish){ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT, false, false};
    if (!query || !*query)
        return false;
    while ((pair = strsep(&rest, "&"))) {
        char *value = strchr(pair, '=');
        if (!value)
            return false;
        *value++ = 0;
        if (!parse_pair(pair, value, wish))
            return false;
    }
    return true;
}

/* NULL, or what does not fit together. */
static const char *contradiction(const struct wish *wish)
{
    if (wish->dirty_mb_s > 0 && !(wish->working_set_mb > 0) && !memory_state.working_set_bytes)
        return "dirty_mb_s needs working_set_mb";
    if (wish->dirty_mb_s > 0 && wish->working_set_mb == 0)
        return "dirty_mb_s needs a working_set_mb above 0";
    if (wish->fill_named && wish->dirty_mb_s == ABSENT)
        return "fill needs dirty_mb_s";
    if ((wish->disk_mb != ABSENT || wish->rate_mb_s != ABSENT) && wish->disk != 1)
        return "disk_mb and rate_mb_s need disk=1";
    if (wish->rate_mb_s != ABSENT && wish->rate_mb_s < 0.001)
        return "rate_mb_s must be at least 0.001";
    if ((wish->disk != ABSENT && wish->disk != 0 && wish->disk != 1) ||
        (wish->verify != ABSENT && wish->verify != 0 && wish->verify != 1))
        return "disk and verify are 0 or 1";
    return NULL;
}

static const char *apply(const struct wish *wish)
{
    static const char too_large[] = "the guest has not that much free memory";
    if (wish->fill_mb != ABSENT && memory_set_fill((uint64_t)(wish->fill_mb * MB)) != MEMORY_OK)
        return too_large;
    if (wish->dirty_mb_s != ABSENT || wish->working_set_mb != ABSENT) {
        uint64_t set = wish->working_set_mb == ABSENT ? memory_state.working_set_bytes
                                                      : (uint64_t)(wish->working_set_mb * MB);
        uint64_t rate = wish->dirty_mb_s == ABSENT ? memory_state.rate_bps : (uint64_t)(wish->dirty_mb_s * MB);
        if (memory_set_dirtying(rate, set, wish->touch) != MEMORY_OK)
            return too_large;
    }
    if (wish->disk == 0)
        disk_stop();
    if (wish->disk == 1)
        return disk_start((uint64_t)((wish->disk_mb == ABSENT ? 16 : wish->disk_mb) * MB),
                          (uint64_t)((wish->rate_mb_s == ABSENT ? 1 : wish->rate_mb_s) * MB));
    return NULL;
}

static void serve_load(int connection, char *query)
{
    struct wish wish;
    char extra[256] = "";
    uint64_t pages = 0, bad_pages = 0, blocks = 0, bad_blocks = 0;
    if (!parse_wish(query, &wish)) {
        refuse(connection, "400 Bad Request",
               "use /load?dirty_mb_s=&working_set_mb=&fill=random|touch&fill_mb=&disk=0|1&disk_mb=&rate_mb_s=&verify=1 "
               "with numbers >= 0");
        return;
    }
    const char *problem = contradiction(&wish);
    if (!problem)
        problem = apply(&wish);
    if (problem) {
        refuse(connection, "400 Bad Request", problem);
        return;
    }
    if (wish.verify == 1) {
        memory_verify(&pages, &bad_pages);
        disk_verify(&blocks, &bad_blocks);
        snprintf(extra, sizeof extra,
                 ", \"verify\": {\"memory_pages\": %lu, \"memory_errors\": %lu, \"disk_blocks\": %lu, "
                 "\"disk_errors\": %lu}",
                 pages, bad_pages, blocks, bad_blocks);
    }
    answer_state(connection, extra);
}

static void serve_fault(int connection, const char *query)
{
    unsigned timeout_s;
    char end;
    const char *problem = NULL;
    if (!query)
        query = "";
    if (!strcmp(query, "agent=silent") || !strcmp(query, "agent=runs"))
        problem = fault_agent(!strcmp(query, "agent=runs")) ? NULL : "the guest has no agent";
    else if (!strcmp(query, "watchdog=starves"))
        fault_starve();
    else if (sscanf(query, "watchdog_s=%u%c", &timeout_s, &end) == 1 && timeout_s >= 1 && timeout_s <= 600)
        problem = fault_watchdog(timeout_s);
    else
        problem = "use /fault?agent=silent, agent=runs, watchdog_s=1..600 or watchdog=starves";
    if (problem)
        refuse(connection, "400 Bad Request", problem);
    else
        answer_state(connection, "");
}

/* The request's head, ended by an empty line; false: too long, too slow or cut off. */
static bool read_request(int connection, char *text, size_t size)
{
    size_t length = 0;
    struct timeval timeout = {TIMEOUT_S, 0};
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    while (length < size - 1) {
        ssize_t got = recv(connection, text + length, size - 1 - length, 0);
        if (got <= 0)
            return false;
        length += (size_t)got;
        text[length] = 0;
        if (strstr(text, "\r\n\r\n") || strstr(text, "\n\n"))
            return true;
    }
    return false;
}

static void serve_request(int connection)
{
    char text[MAX_REQUEST], *rest = text;
    if (!read_request(connection, text, sizeof text)) {
        refuse(connection, "400 Bad Request", "the request is too long, too slow or cut off");
        return;
    }
    const char *method = strsep(&rest, " "), *target = rest ? strsep(&rest, " \r\n") : NULL;
    if (!target || *target != '/') {
        refuse(connection, "400 Bad Request", "this is no HTTP request");
        return;
    }
    char *query = strchr(target, '?');
    if (query)
        *query++ = 0;
    if (strcmp(method, "GET"))
        refuse(connection, "405 Method Not Allowed", "only GET");
    else if (!strcmp(target, "/state"))
        answer_state(connection, "");
    else if (!strcmp(target, "/load"))
        serve_load(connection, query);
    else if (!strcmp(target, "/fault"))
        serve_fault(connection, query);
    else if (!strcmp(target, "/panic")) {
        fault_panic();
        answer_state(connection, "");
    } else
        refuse(connection, "404 Not Found", "there is /state, /load, /fault and /panic");
}

void http_serve(int connection)
{
    char rest[512];
    serve_request(connection);
    /* Closing over unread bytes would reset the connection and could take the answer with it. */
    shutdown(connection, SHUT_WR);
    for (int i = 0; i < 64 && recv(connection, rest, sizeof rest, 0) > 0; i++)
        ;
}
