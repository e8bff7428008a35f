/* The only file that knows the CPU. Each level names its kernels; the best available one is in use until a test
 * or a measurement forces another. Levels stand in order and each includes those before it; the portable one is
 * first and always complete. The SHA extensions are a feature of their own: a level above the portable one uses
 * them where they exist. */

#include "ed25519.h"

#include <stdatomic.h>

static int always_available(void)
{
    return 1;
}

#ifdef P2L_X86_64
#include <cpuid.h>

/* Which register files the operating system saves (XCR0); 0 where it does not say. */
static uint64_t saved_registers(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

/* The bits of leaf 7, register EBX; 0 where there is none. */
static unsigned extended_features(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) ? b : 0;
}

static int avx2_available(void)
{
    const unsigned wanted = 1u << 3 | 1u << 5 | 1u << 8; /* BMI1, AVX2, BMI2 */
    return (saved_registers() & 0x06) == 0x06 && (extended_features() & wanted) == wanted;
}

static int avx512_available(void)
{
    const unsigned wanted = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 30 | 1u << 31; /* F, DQ, IFMA, BW, VL */
    return avx2_available() && (saved_registers() & 0xe6) == 0xe6 && (extended_features() & wanted) == wanted;
}

static int sha_ni_available(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSE4_1) || !(c & bit_SSSE3))
        return 0;
    return extended_features() >> 29 & 1;
}

/* SHA-256 above the portable level. */
static void sha256_compress_x86(uint32_t state[8], const uint8_t *blocks, size_t count)
{
    static atomic_int known; /* 0 not asked yet, 1 no, 2 yes */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        answer = 1 + sha_ni_available();
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    (answer == 2 ? p2l_sha256_compress_sha_ni : p2l_sha256_compress_portable)(state, blocks, count);
}
#endif

static const struct p2l_level levels[] = {
    {"portable", always_available, p2l_sha256_compress_portable, &p2l_ed25519_portable},
#ifdef P2L_X86_64
    {"avx2", avx2_available, sha256_compress_x86, &p2l_ed25519_avx2},
    {"avx512", avx512_available, sha256_compress_x86, &p2l_ed25519_avx512},
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

const struct p2l_ed25519_kernels *p2l_ed25519_kernels(void)
{
    return levels[level_index()].ed25519;
}
