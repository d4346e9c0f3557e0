/* Disk load: sequence number s goes to block s % blocks, written through every cache. So the newest sequence number
   says what each block must hold, also after a restart: a lost, stale, misplaced or torn write shows. */
#define _GNU_SOURCE
#include "labguest.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEVICE "/dev/vda"
#define MAGIC 0x31307365756c425aull
#define WORDS (PAGE / sizeof(uint64_t))
#define HEAD_WORDS (sizeof(struct head) / sizeof(uint64_t))

/* `run` is the wall clock at the first block of an area: the greater run is the newer one. */
struct head {
    uint64_t magic, block, sequence, run, area_blocks, checksum;
};

struct disk_state disk_state;
static int device = -1;
static uint64_t area_blocks, run;
static uint64_t buffer[WORDS] __attribute__((aligned(PAGE)));
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* held over I/O: never taken to answer /state */

static uint64_t sum(const struct head *head)
{
    return (head->block * 31 + head->sequence) * 31 + head->run * 31 + head->area_blocks;
}

static bool fail(counter_t *count, const char *why)
{
    ++*count;
    disk_state.last_error = why;
    return false;
}

static bool read_block(uint64_t block)
{
    return pread(device, buffer, PAGE, (off_t)(block * PAGE)) == PAGE;
}

/* The block in the buffer is a whole one of ours, written to this place. */
static bool intact(uint64_t block, struct head *head)
{
    memcpy(head, buffer, sizeof *head);
    return head->magic == MAGIC && head->block == block && head->checksum == sum(head) &&
           same_words(buffer, HEAD_WORDS, WORDS, head->sequence ^ head->run);
}

/* What the block must hold now; 0: not written in this run. */
static uint64_t expected(uint64_t block)
{
    uint64_t last = disk_state.last_sequence, back = (last % area_blocks + area_blocks - block) % area_blocks;
    return last > back ? last - back : 0;
}

static bool check_block(uint64_t block)
{
    struct head head;
    uint64_t wanted = expected(block);
    if (!wanted)
        return true;
    if (!read_block(block))
        return fail(&disk_state.io_errors, "a read failed");
    disk_state.blocks_verified++;
    if (!intact(block, &head))
        return fail(&disk_state.mismatches, "a block is damaged");
    if (head.run != run || head.sequence != wanted)
        return fail(&disk_state.mismatches, "a block holds old content: a write was lost");
    return true;
}

static uint64_t check_area(uint64_t *errors)
{
    uint64_t checked = 0;
    for (uint64_t block = 0; block < area_blocks; block++) {
        checked += expected(block) != 0;
        *errors += !check_block(block);
    }
    return checked;
}

static bool write_next(void)
{
    uint64_t sequence = disk_state.last_sequence + 1, block = sequence % area_blocks, began = monotonic_ns(), ms;
    struct head head = {MAGIC, block, sequence, run, area_blocks, 0};
    head.checksum = sum(&head);
    memcpy(buffer, &head, sizeof head);
    fill_words(buffer, HEAD_WORDS, WORDS, sequence ^ run);
    if (pwrite(device, buffer, PAGE, (off_t)(block * PAGE)) != PAGE)
        return fail(&disk_state.io_errors, "a write failed");
    ms = (monotonic_ns() - began) / 1000000;
    if (ms > disk_state.longest_write_ms)
        disk_state.longest_write_ms = ms;
    disk_state.last_sequence = sequence;
    disk_state.blocks_written++;
    return true;
}

/* Goes on with what an earlier boot wrote into an area of this size, else begins a new run. The one block that was
   being written at a power cut may be torn; it lies right behind the newest and is not expected yet. */
static void adopt(void)
{
    struct head head;
    uint64_t newest = 0;
    run = 0;
    for (uint64_t block = 0; block < area_blocks; block++) {
        if (!read_block(block)) {
            fail(&disk_state.io_errors, "a read failed");
            continue;
        }
        if (!intact(block, &head) || head.area_blocks != area_blocks || head.run < run)
            continue;
        newest = head.run > run || head.sequence > newest ? head.sequence : newest;
        run = head.run;
    }
    disk_state.last_sequence = newest;
    if (!run)
        run = (uint64_t)time(NULL) * 1000000000u + monotonic_ns() % 1000000000u;
}

static const char *open_device(void)
{
    struct stat status;
    uint64_t bytes = 0;
    if (device >= 0)
        return NULL;
    /* Without the driver a write would make a plain file in devtmpfs and succeed. */
    if (stat(DEVICE, &status) || !S_ISBLK(status.st_mode))
        return "the guest has no disk " DEVICE;
    int fd = open(DEVICE, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes) || bytes < 2 * PAGE) {
        if (fd >= 0)
            close(fd);
        return "the disk " DEVICE " cannot be opened for writing";
    }
    device = fd;
    disk_state.size_bytes = bytes;
    return NULL;
}

static const char *start_locked(uint64_t area_bytes, uint64_t rate_bps)
{
    uint64_t ignored = 0;
    const char *problem = open_device();
    if (problem)
        return problem;
    if (area_bytes > disk_state.size_bytes || area_bytes < 2 * PAGE)
        return "disk_mb does not fit the disk";
    disk_state.rate_bps = rate_bps;
    if (area_blocks != area_bytes / PAGE) {
        area_blocks = area_bytes / PAGE;
        disk_state.area_bytes = area_blocks * PAGE;
        adopt();
        check_area(&ignored); /* counted in the state */
    }
    disk_state.running = 1;
    return NULL;
}

const char *disk_start(uint64_t area_bytes, uint64_t rate_bps)
{
    pthread_mutex_lock(&lock);
    const char *problem = start_locked(area_bytes, rate_bps);
    pthread_mutex_unlock(&lock);
    return problem;
}

void disk_stop(void)
{
    disk_state.running = 0;
}

void disk_verify(uint64_t *blocks, uint64_t *errors)
{
    pthread_mutex_lock(&lock);
    if (area_blocks)
        *blocks = check_area(errors);
    pthread_mutex_unlock(&lock);
}

/* Ends writing and keeps it ended. False: a write hangs. */
bool disk_quiesce(unsigned max_wait_s)
{
    struct timespec until;
    disk_state.running = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += max_wait_s;
    return pthread_mutex_timedlock(&lock, &until) == 0;
}

static bool one_round(void)
{
    pthread_mutex_lock(&lock);
    bool well = true;
    if (disk_state.running) {
        well = write_next();
        if (well)
            check_block((disk_state.last_sequence - (uint64_t)random() % disk_state.last_sequence) % area_blocks);
    }
    pthread_mutex_unlock(&lock);
    return well;
}

void *disk_thread(void *unused)
{
    uint64_t due = monotonic_ns();
    (void)unused;
    for (;;) {
        uint64_t now = monotonic_ns();
        if (!disk_state.running || now < due) {
            sleep_ms(disk_state.running && due - now < 100000000u ? (unsigned)((due - now) / 1000000) + 1 : 100);
            continue;
        }
        if (now - due > 100000000u) /* after a pause or on a slow disk: no burst to catch up */
            due = now;
        due += (uint64_t)(PAGE * 1e9 / (double)disk_state.rate_bps);
        if (!one_round())
            sleep_ms(1000); /* the same block is tried again */
    }
}
