/* What monitoring must notice: a panic, an agent that falls silent, a watchdog that is fed no more. The cloud kernel
   has no driver for the Intel 6300ESB, so it is driven from here; registers as in "6300ESB I/O Controller Hub". */
#define _GNU_SOURCE
#include "labguest.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define ID "0x8086 0x25ab"
#define CONFIG 0x60
#define INTERRUPT_OFF 0x0003
#define LOCK 0x68
#define ENABLE 0x02
#define TIMER1 0x00
#define TIMER2 0x04
#define RELOAD 0x0c
#define HALF_S_TICKS 512u

static volatile uint8_t *registers;
static int config = -1;
static counter_t feed_every_ms;

static void *panic_thread(void *unused)
{
    (void)unused;
    sleep_ms(200); /* the answer goes out first */
    FILE *trigger = fopen("/proc/sysrq-trigger", "we");
    if (trigger) {
        fputc('c', trigger);
        fclose(trigger);
    }
    return NULL;
}

void fault_panic(void)
{
    start_thread(panic_thread, NULL);
}

bool fault_agent(bool runs)
{
    return !system(runs ? "killall -CONT qemu-ga" : "killall -STOP qemu-ga");
}

/* The first word of a file in a device's directory; empty: there is none. */
static void read_word(const char *device, const char *name, char *word, size_t size)
{
    char path[128];
    *word = 0;
    snprintf(path, sizeof path, DEVICES "/%.32s/%s", device, name);
    FILE *file = fopen(path, "re");
    if (file && fgets(word, (int)size, file))
        word[strcspn(word, " \n")] = 0;
    if (file)
        fclose(file);
}

static bool find(char *device, size_t size)
{
    DIR *directory = opendir(DEVICES);
    struct dirent *entry;
    bool found = false;
    while (directory && !found && (entry = readdir(directory))) {
        char vendor[16], kind[16], both[40];
        read_word(entry->d_name, "vendor", vendor, sizeof vendor);
        read_word(entry->d_name, "device", kind, sizeof kind);
        snprintf(both, sizeof both, "%s %s", vendor, kind);
        found = !strcmp(both, ID);
        if (found)
            snprintf(device, size, "%.32s", entry->d_name);
    }
    if (directory)
        closedir(directory);
    return found;
}

static int open_file(const char *device, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, DEVICES "/%s/%s", device, name);
    return open(path, O_RDWR | O_SYNC | O_CLOEXEC);
}

static void unlock(void)
{
    *(volatile uint16_t *)(registers + RELOAD) = 0x80;
    *(volatile uint16_t *)(registers + RELOAD) = 0x86;
}

static void feed(void)
{
    unlock();
    *(volatile uint16_t *)(registers + RELOAD) = 0x100;
}

static void *feed_thread(void *unused)
{
    (void)unused;
    for (;;) {
        unsigned every_ms = (unsigned)feed_every_ms;
        if (every_ms)
            feed();
        sleep_ms(every_ms ? every_ms : 100);
    }
    return NULL;
}

static const char *map_registers(void)
{
    char device[40], start[32];
    if (!find(device, sizeof device))
        return "the guest has no i6300esb watchdog";
    int on = open_file(device, "enable"), memory = open_file(device, "resource0");
    config = open_file(device, "config");
    bool is_on = on >= 0 && write(on, "1", 1) == 1;
    void *page = memory < 0 ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    close(on);
    close(memory);
    if (!is_on || config < 0 || page == MAP_FAILED)
        return "the watchdog's registers cannot be reached";
    read_word(device, "resource", start, sizeof start);
    registers = (volatile uint8_t *)page + (strtoull(start, NULL, 16) & (PAGE - 1));
    start_thread(feed_thread, NULL);
    return NULL;
}

const char *fault_watchdog(unsigned timeout_s)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    uint16_t quiet = INTERRUPT_OFF;
    uint8_t enable = ENABLE;
    pthread_mutex_lock(&mutex);
    const char *problem = registers ? NULL : map_registers();
    if (!problem) {
        unlock();
        *(volatile uint32_t *)(registers + TIMER1) = timeout_s * HALF_S_TICKS;
        unlock();
        *(volatile uint32_t *)(registers + TIMER2) = timeout_s * HALF_S_TICKS;
        feed();
        if (pwrite(config, &quiet, sizeof quiet, CONFIG) != sizeof quiet || pwrite(config, &enable, 1, LOCK) != 1)
            problem = "the watchdog cannot be set up";
        else
            feed_every_ms = timeout_s * 250;
    }
    pthread_mutex_unlock(&mutex);
    return problem;
}

void fault_starve(void)
{
    feed_every_ms = 0;
}
