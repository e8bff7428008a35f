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
#endif

static const struct p2l_level levels[] = {
    {"portable", always_available, &p2l_ed25519_portable},
#ifdef P2L_X86_64
    {"avx2", avx2_available, &p2l_ed25519_avx2},
    {"avx512", avx512_available, &p2l_ed25519_avx512},
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

const char *p2l_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

/* SHA-256. The SHA extensions belong to no level: whoever has them uses them at every level but the portable one. For
 * blocks that come one by one, two lanes of them beat sixteen of AVX-512 on AMD's processors (18 ns against 22 for a
 * block on Zen 4), and lose on Intel's (47 against 22 on Sapphire Rapids). For whole messages and for nodes of trees
 * AVX-512 wins on both; how many it takes for that depends on who made the SHA extensions. */

static const struct p2l_hashing hashing_portable = {p2l_sha256_compress_portable, {0}, {0}, NULL, NULL, 0};

#ifdef P2L_X86_64
#define NARROW {p2l_sha256_lanes_sha_ni, 2}
#define WIDE {p2l_sha256_lanes_avx512, 16}
#define ABREAST(least) p2l_sha256_abreast_avx512, p2l_sha256_nodes_avx512, least
static const struct p2l_hashing hashing_sha_ni = {p2l_sha256_compress_sha_ni, NARROW, {0}, NULL, NULL, 0};
static const struct p2l_hashing hashing_avx512_amd = {p2l_sha256_compress_sha_ni, NARROW, {0}, ABREAST(13)};
static const struct p2l_hashing hashing_avx512_sha_ni = {p2l_sha256_compress_sha_ni, NARROW, WIDE, ABREAST(9)};
static const struct p2l_hashing hashing_avx512 = {p2l_sha256_compress_portable, {0}, WIDE, ABREAST(3)};

static int amd(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx &&
           d == signature_AMD_edx;
}

static const struct p2l_hashing *hashing_at(size_t level)
{
    if (level == P2L_PORTABLE)
        return &hashing_portable;
    if (level == P2L_AVX2)
        return sha_ni_available() ? &hashing_sha_ni : &hashing_portable;
    if (!sha_ni_available())
        return &hashing_avx512;
    return amd() ? &hashing_avx512_amd : &hashing_avx512_sha_ni;
}
#endif

/* For tests: the variant that is used in the place of the level's; NULL for none. */
static _Atomic(const struct p2l_hashing *) forced;

int p2l_hashing_force(int variant)
{
    const struct p2l_hashing *wanted = NULL;
    if (variant == 0) {
        atomic_store(&forced, NULL);
        return 1;
    }
#ifdef P2L_X86_64
    if (avx512_available() && variant == 1)
        wanted = &hashing_avx512;
    else if (avx512_available() && sha_ni_available() && variant == 2)
        wanted = &hashing_avx512_sha_ni;
    else if (avx512_available() && sha_ni_available() && variant == 3)
        wanted = &hashing_avx512_amd;
#endif
    if (wanted != NULL)
        atomic_store(&forced, wanted);
    return wanted != NULL;
}

const struct p2l_hashing *p2l_hashing(void)
{
    const struct p2l_hashing *hashing = atomic_load_explicit(&forced, memory_order_relaxed);
    if (hashing != NULL)
        return hashing;
#ifdef P2L_X86_64
    /* By level, and NULL before the first question: asking the CPU costs more than a hash. */
    static _Atomic(const struct p2l_hashing *) known[3];
    size_t level = level_index();
    hashing = atomic_load_explicit(&known[level], memory_order_relaxed);
    if (hashing == NULL) {
        hashing = hashing_at(level);
        atomic_store_explicit(&known[level], hashing, memory_order_relaxed);
    }
    return hashing;
#else
    return &hashing_portable;
#endif
}

const struct p2l_ed25519_kernels *p2l_ed25519_kernels(void)
{
    return levels[level_index()].ed25519;
}
