/* SHA-256 compression with the SHA extensions of x86-64 (Intel, "New Instructions Supporting the Secure Hash
 * Algorithm on Intel Architecture Processors", 2013). One instruction does two rounds; the state is kept as the
 * two halves ABEF and CDGH that the instruction wants. Its latency is longer than its work, so two messages that run
 * beside each other take little longer than one. */

#include "internal.h"

#ifdef P2L_X86_64

#pragma GCC target("sha,sse4.1,ssse3")
#include <immintrin.h>

struct halves {
    __m128i abef, cdgh;
};

/* DCBA, HGFE -> ABEF, CDGH */
static inline struct halves state_load(const uint32_t state[8])
{
    __m128i dcba = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);
    return (struct halves){_mm_alignr_epi8(dcba, hgfe, 8), _mm_blend_epi16(hgfe, dcba, 0xf0)};
}

static inline void state_store(uint32_t state[8], struct halves s)
{
    __m128i feba = _mm_shuffle_epi32(s.abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(s.cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static inline void words_load(__m128i w[4], const uint8_t *block)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    for (int i = 0; i < 4; i++)
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(block + 16 * i)), swap);
}

/* Rounds 4i .. 4i + 3. */
static inline __attribute__((always_inline)) void four_rounds(struct halves *s, __m128i w[4], int i)
{
    __m128i words = w[i & 3];
    __m128i sum = _mm_add_epi32(words, _mm_loadu_si128((const __m128i *)(P2L_SHA256_ROUND + 4 * i)));
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, sum);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(sum, 0x0e));
    if (i < 12) {
        /* The four words that are due sixteen rounds later take the place of those just used. */
        __m128i next = _mm_sha256msg1_epu32(words, w[(i + 1) & 3]);
        next = _mm_add_epi32(next, _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
        w[i & 3] = _mm_sha256msg2_epu32(next, w[(i + 3) & 3]);
    }
}

static inline struct halves sum_of(struct halves one, struct halves other)
{
    return (struct halves){_mm_add_epi32(one.abef, other.abef), _mm_add_epi32(one.cdgh, other.cdgh)};
}

void p2l_sha256_compress_sha_ni(uint32_t state[8], const uint8_t *blocks, size_t count)
{
    struct halves s = state_load(state);
    for (; count > 0; count--, blocks += 64) {
        const struct halves before = s;
        __m128i w[4];
        words_load(w, blocks);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            four_rounds(&s, w, i);
        s = sum_of(s, before);
    }
    state_store(state, s);
}

/* Two messages: words 0 .. 7 of the states are the first's, 8 .. 15 the second's. */
void p2l_sha256_lanes_sha_ni(uint32_t *states, const uint8_t *const *blocks, size_t count)
{
    struct halves s = state_load(states), r = state_load(states + 8);
    const uint8_t *one = blocks[0], *other = blocks[1];
    for (; count > 0; count--, one += 64, other += 64) {
        const struct halves s_before = s, r_before = r;
        __m128i w[4], v[4];
        words_load(w, one);
        words_load(v, other);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            four_rounds(&s, w, i);
            four_rounds(&r, v, i);
        }
        s = sum_of(s, s_before);
        r = sum_of(r, r_before);
    }
    state_store(states, s);
    state_store(states + 8, r);
}

#else
typedef int p2l_nothing_here; /* An empty file is not C. */
#endif
