/* Memory load: pages of incompressible data that prove themselves (seed, page number, sequence of the seed). */
#define _GNU_SOURCE
#include "labguest.h"

#include <sys/mman.h>

#define WORDS (PAGE / sizeof(uint64_t))
#define HEAD_WORDS 2             /* seed, page number */
#define BODY_END (WORDS - 1)     /* the last word belongs to `touch` */
#define RESERVE_BYTES (12u << 20) /* left for the kernel and a shell: better refuse than be killed */
#define TICK_MS 10

struct region {
    uint64_t *words;
    uint64_t pages;
};

struct memory_state memory_state;
static struct region filled, working_set;
static bool touch_only;
static uint64_t next_seed = 1, next_page;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void write_page(const struct region *region, uint64_t page)
{
    uint64_t *words = region->words + page * WORDS;
    words[0] = next_seed++;
    words[1] = page;
    fill_words(words, HEAD_WORDS, BODY_END, words[0]);
    words[BODY_END] = words[0];
}

static void verify_region(const struct region *region, uint64_t *pages, uint64_t *errors)
{
    for (uint64_t page = 0; page < region->pages; page++, ++*pages) {
        const uint64_t *words = region->words + page * WORDS;
        if (words[1] != page || !same_words(words, HEAD_WORDS, BODY_END, words[0]))
            ++*errors;
    }
}

/* Pages that stay keep their content. */
static enum memory_result resize(struct region *region, uint64_t bytes)
{
    uint64_t old = region->pages, pages = (bytes + PAGE - 1) / PAGE;
    void *moved = NULL;
    if (pages == old)
        return MEMORY_OK;
    if (pages > old && (pages - old) * PAGE + RESERVE_BYTES > meminfo_bytes("MemAvailable"))
        return MEMORY_TOO_LARGE;
    if (!pages)
        munmap(region->words, old * PAGE);
    else if (!old)
        moved = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else
        moved = mremap(region->words, old * PAGE, pages * PAGE, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED)
        return MEMORY_TOO_LARGE;
    *region = (struct region){moved, pages};
    for (uint64_t page = old; page < pages; page++)
        write_page(region, page);
    return MEMORY_OK;
}

enum memory_result memory_set_fill(uint64_t bytes)
{
    pthread_mutex_lock(&lock);
    enum memory_result result = resize(&filled, bytes);
    memory_state.fill_bytes = filled.pages * PAGE;
    pthread_mutex_unlock(&lock);
    return result;
}

enum memory_result memory_set_dirtying(uint64_t rate_bps, uint64_t working_set_bytes, bool touch)
{
    pthread_mutex_lock(&lock);
    enum memory_result result = resize(&working_set, working_set_bytes);
    if (result == MEMORY_OK) {
        touch_only = touch;
        memory_state.rate_bps = rate_bps;
        memory_state.working_set_bytes = working_set.pages * PAGE;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

void memory_verify(uint64_t *pages, uint64_t *errors)
{
    pthread_mutex_lock(&lock);
    verify_region(&filled, pages, errors);
    verify_region(&working_set, pages, errors);
    pthread_mutex_unlock(&lock);
}

/* Dirties pages for at most one tick's time, so that a guest too slow for its rate still answers. */
static uint64_t dirty_pages(uint64_t wanted)
{
    uint64_t done = 0, end = monotonic_ns() + TICK_MS * 1000000u;
    pthread_mutex_lock(&lock);
    while (working_set.pages && memory_state.rate_bps && done < wanted && (done % 64 || monotonic_ns() < end)) {
        next_page %= working_set.pages;
        if (touch_only)
            working_set.words[next_page * WORDS + BODY_END] = next_seed++;
        else
            write_page(&working_set, next_page);
        next_page++;
        done++;
    }
    pthread_mutex_unlock(&lock);
    return done * PAGE;
}

static void measure(uint64_t now)
{
    static uint64_t since, bytes;
    if (now - since < 1000000000u)
        return;
    memory_state.achieved_bps = (uint64_t)((double)(memory_state.dirtied_bytes - bytes) * 1e9 / (double)(now - since));
    since = now;
    bytes = memory_state.dirtied_bytes;
}

void *memory_thread(void *unused)
{
    uint64_t last = monotonic_ns();
    double owed = 0;
    (void)unused;
    for (;;) {
        uint64_t rate = memory_state.rate_bps, now;
        sleep_ms(rate ? TICK_MS : 100);
        now = monotonic_ns();
        owed += (double)rate * (double)(now - last) / 1e9;
        last = now;
        if (owed > (double)rate / 10) /* after a pause or when too slow: no burst to catch up */
            owed = (double)rate / 10;
        if (owed >= PAGE) {
            uint64_t done = dirty_pages((uint64_t)owed / PAGE);
            memory_state.dirtied_bytes += done;
            owed -= (double)done;
        }
        measure(now);
    }
}
