/* What the files of signature verification share. The flow stands in ed25519.c, the arithmetic modulo the order of
 * the group in ed25519_scalar.c; curve arithmetic is written once, in ed25519_lanes.h, over the field of a level. */

#ifndef P2L_ED25519_H
#define P2L_ED25519_H

#include "internal.h"

/* A debug build checks the bounds that are written beside the arithmetic; setup.py asks for it with the sanitizers. */
#ifdef P2L_DEBUG
#undef NDEBUG
#include <assert.h>
/* Sanitizers multiply the code of what is inlined; the compiler would take minutes. */
#define P2L_INLINE static
#elif defined(__GNUC__)
#define P2L_INLINE static inline __attribute__((always_inline))
#else
#define P2L_INLINE static inline
#endif

/* Points between kernels are records of whole words, so that a lane can load one with a few wide loads.
 *
 *   affine: y + x, y - x, 2dxy                five words each, one of padding
 *   point:  Y + X, Y - X, Z, T = XY/Z         five words each, four of padding
 *
 * A field element of five words is in radix 2^51, but for the level avx2, where each word holds a limb of 26 bits in
 * its low and a limb of 25 bits in its high half. Records never leave the level that made them, except through
 * `reduce`, which writes radix 2^51. */
enum { P2L_AFFINE_WORDS = 16, P2L_POINT_WORDS = 24, P2L_LANES_MAX = 8 };

/* The part of a bucket's entries that one lane adds up. An entry is a point's number times two, plus one if it is
 * to be subtracted. */
struct p2l_task {
    uint32_t first, count, bucket;
};

struct p2l_ed25519_kernels {
    size_t lanes;
    /* Below `least` signatures the portable level is faster; up to `few`, checks one by one beat the equation. */
    size_t least, few;
    /* The base point as an affine record. */
    void (*base)(uint64_t record[P2L_AFFINE_WORDS]);
    /* count x 32 bytes -> count affine records; valid[i] is 0 where the bytes are no point. */
    void (*decompress)(const uint8_t *const *encodings, size_t count, uint64_t (*points)[P2L_AFFINE_WORDS],
                       uint8_t *valid);
    /* The sum of each task's entries, written to buckets[task.bucket]. Best if neighbours are of similar length. */
    void (*fill)(const uint64_t (*points)[P2L_AFFINE_WORDS], const uint16_t *entries, const struct p2l_task *tasks,
                 size_t count, uint64_t (*buckets)[P2L_POINT_WORDS]);
    /* For each lane i: sums[i] = sum over j of (j + 1) buckets[i x count + j], in radix 2^51. */
    void (*reduce)(const uint64_t (*buckets)[P2L_POINT_WORDS], size_t count, uint64_t (*sums)[P2L_POINT_WORDS]);
    /* For each of at most `lanes` items: verdicts[i] = whether [8]([s]B - [k]A - R) = 0. */
    void (*verify_each)(const uint64_t *const *keys, const uint64_t *const *nonces, const uint64_t (*k)[4],
                        const uint64_t (*s)[4], size_t count, uint8_t *verdicts);
    /* One SHA-512 compression per lane: state[word][lane]; lanes outside of the mask keep their state. */
    void (*sha512_compress)(uint64_t (*state)[P2L_LANES_MAX], const uint8_t *const *blocks, unsigned mask);
    /* For tests: one field operation on `operands` elements per lane, five words each; see p2l_ed25519_probe(). */
    void (*probe)(int operation, const uint64_t *operands, uint64_t *results);
};

extern const struct p2l_ed25519_kernels p2l_ed25519_portable;
#ifdef P2L_X86_64
extern const struct p2l_ed25519_kernels p2l_ed25519_avx2, p2l_ed25519_avx512;
#endif
/* At the level in use. */
const struct p2l_ed25519_kernels *p2l_ed25519_kernels(void);

/* Points as records in radix 2^51 (ed25519_portable.c): the sum over i of 2^starts[i] sums[i], a difference, and whether
 * 8 times a point is the identity. */
void p2l_ed25519_combine(const uint64_t (*sums)[P2L_POINT_WORDS], const uint32_t *starts, size_t count,
                         uint64_t total[P2L_POINT_WORDS]);
void p2l_ed25519_difference(const uint64_t one[P2L_POINT_WORDS], const uint64_t other[P2L_POINT_WORDS],
                            uint64_t result[P2L_POINT_WORDS]);
int p2l_ed25519_is_small(const uint64_t record[P2L_POINT_WORDS]);

/* The multiples 1 .. 8 of the base point as affine records in radix 2^51 (ed25519_base.c). */
extern const uint64_t p2l_ed25519_base[8][P2L_AFFINE_WORDS];

/* SHA-512 of prefix || data; the prefix is two times 32 bytes or, with a null pointer, empty (sha512.c). */
extern const uint64_t p2l_sha512_rounds[80];
struct p2l_sha512_message {
    const uint8_t *prefix[2];
    struct p2l_span data;
};
/* order: room for count numbers. */
void p2l_sha512_messages(const struct p2l_sha512_message *messages, size_t count, uint32_t *order, uint8_t *hashes);

/* Integers modulo the group's order L, four words, lowest first, fully reduced (ed25519_scalar.c). */
int p2l_scalar_is_reduced(const uint8_t bytes[32]);
void p2l_scalar_load(uint64_t scalar[4], const uint8_t bytes[32]);
void p2l_scalar_reduce(uint64_t scalar[4], const uint64_t number[8]);
/* sum += z x scalar. Each product is below 2^381: there is room for 2^131 of them. */
void p2l_scalar_accumulate(uint64_t sum[8], const uint64_t z[2], const uint64_t scalar[4]);
void p2l_scalar_negate(uint64_t scalar[4]);

static inline uint64_t p2l_load64_little(const uint8_t *bytes)
{
    uint64_t word = 0;
    for (int i = 7; i >= 0; i--)
        word = word << 8 | bytes[i];
    return word;
}

#endif
