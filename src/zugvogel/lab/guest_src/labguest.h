/* Shared between the parts of the lab guest's one program. Sizes are bytes, MB in requests is 1,048,576 bytes. */
#ifndef LABGUEST_H
#define LABGUEST_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096u
#define MB (1024.0 * 1024.0)

typedef _Atomic uint64_t counter_t;

/* labguest.c */
void start_thread(void *(*body)(void *), void *argument);
uint64_t monotonic_ns(void);
void sleep_ms(unsigned ms);
uint64_t meminfo_bytes(const char *field);
/* Fills words[first..count) with a xorshift sequence that `seed` alone determines. */
void fill_words(uint64_t *words, size_t first, size_t count, uint64_t seed);
bool same_words(const uint64_t *words, size_t first, size_t count, uint64_t seed);

/* memory.c: RAM whose pages prove themselves */
enum memory_result { MEMORY_OK, MEMORY_TOO_LARGE };
struct memory_state {
    counter_t rate_bps, achieved_bps, working_set_bytes, dirtied_bytes, fill_bytes;
};
extern struct memory_state memory_state;
enum memory_result memory_set_fill(uint64_t bytes);
/* touch: change 8 bytes of each page instead of the whole page. */
enum memory_result memory_set_dirtying(uint64_t rate_bps, uint64_t working_set_bytes, bool touch);
void memory_verify(uint64_t *pages, uint64_t *errors);
void *memory_thread(void *unused);

/* disk.c: self-checking blocks on /dev/vda */
struct disk_state {
    counter_t size_bytes, running, area_bytes, rate_bps, last_sequence, blocks_written, blocks_verified, io_errors,
        mismatches, longest_write_ms;
    _Atomic(const char *) last_error;
};
extern struct disk_state disk_state;
/* Returns NULL, or why not. */
const char *disk_start(uint64_t area_bytes, uint64_t rate_bps);
void disk_stop(void);
void disk_verify(uint64_t *blocks, uint64_t *errors);
bool disk_quiesce(unsigned max_wait_s);
void *disk_thread(void *unused);

/* faults.c */
void fault_panic(void);
/* Whether there is an agent. */
bool fault_agent(bool runs);
/* Starts the watchdog and feeds it four times within `timeout_s`; NULL, or why not. */
const char *fault_watchdog(unsigned timeout_s);
void fault_starve(void);

/* http.c */
void http_serve(int connection);
extern counter_t ticks;
#endif
