/* The only file that knows the CPU. Each level names its kernels; the best available one is in use until a test
 * or a measurement forces another. Levels stand in order, the portable one first: it is always complete. */

#include "internal.h"

#include <stdatomic.h>

#ifdef P2L_X86_64
#include <cpuid.h>

static int sha_ni_available(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSE4_1) || !(c & bit_SSSE3))
        return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#endif

static int always_available(void)
{
    return 1;
}

static const struct p2l_level levels[] = {
    {"portable", always_available, p2l_sha256_compress_portable},
#ifdef P2L_X86_64
    {"sha_ni", sha_ni_available, p2l_sha256_compress_sha_ni},
#endif
};
enum { LEVELS = sizeof levels / sizeof *levels };

/* Index + 1 of the level in use; 0 before the first question. Any two threads find the same answer. */
static atomic_size_t chosen;

static size_t level_index(void)
{
    size_t index = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (index == 0) {
        for (index = LEVELS; !levels[index - 1].available(); index--)
            ;
        atomic_store_explicit(&chosen, index, memory_order_relaxed);
    }
    return index - 1;
}

size_t p2l_level_count(void)
{
    return LEVELS;
}

const char *p2l_level_name(size_t index)
{
    return levels[index].name;
}

int p2l_level_available(size_t index)
{
    return levels[index].available();
}

size_t p2l_level_get(void)
{
    return level_index();
}

int p2l_level_set(size_t index)
{
    if (index >= LEVELS || !levels[index].available())
        return 0;
    atomic_store_explicit(&chosen, index + 1, memory_order_relaxed);
    return 1;
}

void p2l_sha256_compress(uint32_t state[8], const uint8_t *blocks, size_t count)
{
    levels[level_index()].sha256_compress(state, blocks, count);
}
