/* The one program of the lab guest: state and load over HTTP (port 80), TCP echo (port 7), power button. */
#define _GNU_SOURCE
#include "labguest.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES (96 * 1024)
#define MAX_CONNECTIONS 1024
#define MAX_INPUTS 16

counter_t ticks;
static _Atomic int connections;

struct server {
    uint16_t port;
    void (*serve)(int connection);
};
struct visit {
    void (*serve)(int connection);
    int connection;
};

void sleep_ms(unsigned ms)
{
    struct timespec pause = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t meminfo_bytes(const char *field)
{
    char line[128];
    unsigned long long kib = 0;
    size_t length = strlen(field);
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, field, length) && line[length] == ':') {
            sscanf(line + length + 1, "%llu", &kib);
            break;
        }
    if (file)
        fclose(file);
    return kib * 1024;
}

static uint64_t xorshift(uint64_t x)
{
    x ^= x << 13;
    x ^= x >> 7;
    return x ^ (x << 17);
}

/* Sequence numbers as seeds differ in few bits, and 0 is xorshift's fixed point: spread them first (splitmix64). */
static uint64_t spread(uint64_t seed)
{
    seed += 0x9e3779b97f4a7c15u;
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    return (seed ^ (seed >> 27)) | 1;
}

void fill_words(uint64_t *words, size_t first, size_t count, uint64_t seed)
{
    uint64_t x = spread(seed);
    for (size_t i = first; i < count; i++)
        words[i] = x = xorshift(x);
}

bool same_words(const uint64_t *words, size_t first, size_t count, uint64_t seed)
{
    uint64_t x = spread(seed);
    for (size_t i = first; i < count; i++)
        if (words[i] != (x = xorshift(x)))
            return false;
    return true;
}

static bool try_thread(void *(*body)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attributes, body, argument);
    pthread_attr_destroy(&attributes);
    return !failed;
}

void start_thread(void *(*body)(void *), void *argument)
{
    if (!try_thread(body, argument)) {
        fprintf(stderr, "lab-guest: no memory for a thread\n");
        exit(1); /* init starts the program again */
    }
}

static void *tick_thread(void *unused)
{
    (void)unused;
    for (;;) {
        sleep_ms(10);
        atomic_fetch_add(&ticks, 1);
    }
    return NULL;
}

static void echo_serve(int connection)
{
    char data[4096];
    ssize_t got;
    int on = 1;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    while ((got = recv(connection, data, sizeof data, 0)) > 0)
        for (ssize_t sent = 0, n; sent < got; sent += n)
            if ((n = send(connection, data + sent, (size_t)(got - sent), MSG_NOSIGNAL)) <= 0)
                return;
}

static void *visit_thread(void *argument)
{
    struct visit visit = *(struct visit *)argument;
    free(argument);
    visit.serve(visit.connection);
    close(visit.connection);
    connections--;
    return NULL;
}

static void welcome(const struct server *server, int connection)
{
    int on = 1, idle_s = 60;
    struct visit *visit = NULL;
    setsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(connection, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    if (++connections <= MAX_CONNECTIONS && (visit = malloc(sizeof *visit))) {
        *visit = (struct visit){server->serve, connection};
        if (try_thread(visit_thread, visit))
            return;
    }
    free(visit);
    close(connection);
    connections--;
}

static void *server_thread(void *argument)
{
    const struct server *server = argument;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(server->port)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 256)) {
        fprintf(stderr, "lab-guest: port %u: %m\n", server->port);
        exit(1);
    }
    for (;;) {
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection >= 0)
            welcome(server, connection);
        else
            sleep_ms(100); /* out of descriptors or memory: others must close first */
    }
}

static nfds_t open_inputs(struct pollfd *inputs)
{
    nfds_t count = 0;
    struct dirent *entry;
    DIR *directory = opendir("/dev/input");
    while (directory && count < MAX_INPUTS && (entry = readdir(directory))) {
        char path[300];
        snprintf(path, sizeof path, "/dev/input/%s", entry->d_name);
        int fd = strncmp(entry->d_name, "event", 5) ? -1 : open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0)
            inputs[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    if (directory)
        closedir(directory);
    return count;
}

static void power_off(void)
{
    fprintf(stderr, "lab-guest: power button pressed, powering off\n");
    disk_quiesce(2); /* ends between two blocks; a hung disk must not keep the guest alive */
    reboot(RB_POWER_OFF);
}

static void *power_thread(void *unused)
{
    struct pollfd inputs[MAX_INPUTS];
    struct input_event event;
    nfds_t count = open_inputs(inputs);
    (void)unused;
    if (!count)
        fprintf(stderr, "lab-guest: no input device, the power button does nothing\n");
    while (count && poll(inputs, count, -1) > 0)
        for (nfds_t i = 0; i < count; i++) {
            if (inputs[i].revents & (POLLERR | POLLHUP | POLLNVAL))
                inputs[i].fd = -1;
            while (inputs[i].fd >= 0 && read(inputs[i].fd, &event, sizeof event) == sizeof event)
                if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1)
                    power_off();
        }
    return NULL;
}

int main(void)
{
    static struct server http = {80, http_serve}, echo = {7, echo_serve};
    signal(SIGPIPE, SIG_IGN);
    start_thread(tick_thread, NULL);
    start_thread(memory_thread, NULL);
    start_thread(disk_thread, NULL);
    start_thread(power_thread, NULL);
    start_thread(server_thread, &echo);
    server_thread(&http);
}
