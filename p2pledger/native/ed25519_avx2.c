/* Ed25519 at the level avx2: four lanes, limbs of 26 and 25 bits in turn, with the 32-bit multiplication of AVX2.
 *
 * Limb i counts 2^ceil(25.5 i) and has 26 bits if i is even, 25 if odd. The multiplication takes the lower 32 bits of
 * its factors, in silence. The bounds:
 *
 *   carried   even limbs below 2^26 + 2^14, odd ones below 2^25 + 2^14: what every function returns, except
 *   negated   limbs of at most 2^27: 2 p minus a carried element; goes nowhere but into a multiplication.
 *
 * In a product, factors of the second operand come in 19 times (below 19 x 2^27 < 2^31.3) and odd ones of the first
 * twice (below 2^27), all within 32 bits. As at the level avx512, sums and differences of products are formed from the
 * columns, and every element has had its pass of carries. P2L_DEBUG checks every bound that is written here. */

#include "ed25519.h"

#ifdef P2L_X86_64

#pragma GCC target("avx2,bmi2")
#include <immintrin.h>

#define LANES 4
#define PAIR 2
#define LEAST 3
#define FEW 4
#define LEVEL(name) name##_avx2
#define INLINE P2L_INLINE

typedef struct {
    __m256i limb[10];
} fe;

typedef struct {
    __m256i column[10];
} columns;

#define SPREAD(number) _mm256_set1_epi64x((int64_t)(number))
#define BITS(i) ((i) % 2 == 0 ? 26 : 25)
#define LIMB_MASK(i) SPREAD(((int64_t)1 << BITS(i)) - 1)

INLINE void check_below(const __m256i *limbs, uint64_t even, uint64_t odd)
{
#ifdef P2L_DEBUG
    for (int i = 0; i < 10; i++) {
        uint64_t lanes[4];
        _mm256_storeu_si256((__m256i *)lanes, limbs[i]);
        for (int lane = 0; lane < 4; lane++)
            assert(lanes[lane] < (i % 2 == 0 ? even : odd));
    }
#else
    (void)limbs, (void)even, (void)odd;
#endif
}
#define CHECK_CARRIED(a) check_below((a)->limb, ((uint64_t)1 << 26) + (1 << 14), ((uint64_t)1 << 25) + (1 << 14))
#define CHECK_FACTOR(a) check_below((a)->limb, ((uint64_t)1 << 27), ((uint64_t)1 << 26))
#define CHECK_PRODUCT(t) check_below((t)->column, (uint64_t)1 << 61, 10 * 19 * ((uint64_t)1 << 53))
#define CHECK_COLUMNS(t, bits) check_below((t)->column, (uint64_t)1 << (bits), (uint64_t)1 << (bits))

/* m p, limb by limb. */
#define TIMES_P(m, i) SPREAD((uint64_t)(m) * (((uint64_t)1 << BITS(i)) - ((i) == 0 ? 19 : 1)))

/* 19 times a number below 2^58. */
INLINE __m256i nineteen_times(__m256i a)
{
    return _mm256_add_epi64(_mm256_add_epi64(a, _mm256_slli_epi64(a, 1)), _mm256_slli_epi64(a, 4));
}

/* Columns below 2^63 -> carried. A first round in two interleaved chains, 0 to 4 and 5 to 9, carries up to 38 bits from
 * limb to limb; the top goes around times 19 to limb 0, and its rest to limb 1; limb 4 gives to limb 5 a second time. */
INLINE void carry(fe *r, const columns *t)
{
    __m256i h[10];
    for (int i = 0; i < 10; i++)
        h[i] = t->column[i];
#define CARRY(from, to)                                                         \
    do {                                                                        \
        h[to] = _mm256_add_epi64(h[to], _mm256_srli_epi64(h[from], BITS(from))); \
        h[from] = _mm256_and_si256(h[from], LIMB_MASK(from));                   \
    } while (0)
    CARRY(0, 1);
    CARRY(5, 6);
    CARRY(1, 2);
    CARRY(6, 7);
    CARRY(2, 3);
    CARRY(7, 8);
    CARRY(3, 4);
    CARRY(8, 9);
    CARRY(4, 5); /* limb 5 below 2^25 + 2^38 */
    h[0] = _mm256_add_epi64(h[0], nineteen_times(_mm256_srli_epi64(h[9], 25))); /* below 2^26 + 2^43 */
    h[9] = _mm256_and_si256(h[9], LIMB_MASK(9));
    CARRY(5, 6); /* limb 6 below 2^26 + 2^14 */
    CARRY(0, 1); /* limb 1 below 2^25 + 2^18 */
    CARRY(1, 2); /* limb 2 below 2^26 + 2 */
    for (int i = 0; i < 10; i++)
        r->limb[i] = h[i];
    CHECK_CARRIED(r);
}

/* Limbs below 2^30 -> carried, all at once. */
INLINE void carry_small(fe *r, const columns *t)
{
    __m256i c[10];
    CHECK_COLUMNS(t, 30);
    for (int i = 0; i < 10; i++)
        c[i] = _mm256_srli_epi64(t->column[i], BITS(i));
    r->limb[0] = _mm256_add_epi64(_mm256_and_si256(t->column[0], LIMB_MASK(0)), nineteen_times(c[9]));
    for (int i = 1; i < 10; i++)
        r->limb[i] = _mm256_add_epi64(_mm256_and_si256(t->column[i], LIMB_MASK(i)), c[i - 1]);
    CHECK_CARRIED(r);
}

/* Column i + j gets a_i b_j, twice if i and j are odd (two halves of a bit), and 19 times from column i + j - 10.
 * a below 2^27, 2^26 if odd, so that twice the odd ones stay below 2^27; b the same, 19 times below 2^31.3. The largest
 * even column is the lowest, below (1 + 4 x 19) 2^54 + 5 x 19 x 2^53 < 2^61; odd columns are below
 * 10 x 19 x 2^53 < 2^60.6. */
INLINE void columns_of_product(columns *t, const fe *a, const fe *b)
{
    __m256i twice[5], nineteen[10];
    CHECK_FACTOR(a);
    CHECK_FACTOR(b);
    for (int i = 0; i < 5; i++)
        twice[i] = _mm256_add_epi64(a->limb[2 * i + 1], a->limb[2 * i + 1]);
    for (int i = 1; i < 10; i++)
        nineteen[i] = _mm256_mul_epu32(b->limb[i], SPREAD(19));
#pragma GCC unroll 10
    for (int k = 0; k < 10; k++) {
        __m256i sum = _mm256_mul_epu32(a->limb[0], b->limb[k]);
#pragma GCC unroll 10
        for (int i = 1; i < 10; i++) {
            int j = (k - i + 10) % 10;
            sum = _mm256_add_epi64(sum, _mm256_mul_epu32(i % 2 == 1 && j % 2 == 1 ? twice[i / 2] : a->limb[i],
                                                         i > k ? nineteen[j] : b->limb[j]));
        }
        t->column[k] = sum;
    }
    CHECK_PRODUCT(t);
}

/* The same with equal operands: 55 products instead of 100. Mixed ones count twice, odd pairs twice more. */
INLINE void columns_of_square(columns *t, const fe *a)
{
    __m256i twice[10], nineteen[10];
    CHECK_FACTOR(a);
    for (int i = 0; i < 10; i++)
        twice[i] = _mm256_add_epi64(a->limb[i], a->limb[i]); /* below 2^28 */
    for (int i = 5; i < 10; i++) /* odd limbs 38 times: below 38 x 2^26 < 2^31.3 */
        nineteen[i] = _mm256_mul_epu32(a->limb[i], SPREAD(i % 2 == 1 ? 38 : 19));
#pragma GCC unroll 10
    for (int k = 0; k < 10; k++) {
        __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 10
        for (int i = 0; i < 10; i++) {
            int j = (k - i + 10) % 10;
            if (i > j)
                continue;
            /* The factor 2 of two odd limbs is in 38 where the pair wraps around; there an even partner of an odd
             * limb has the 2 of a mixed product from it. */
            if (i + j < 10) {
                __m256i left = i == j ? a->limb[i] : twice[i];
                __m256i right = i % 2 == 1 && j % 2 == 1 ? twice[j] : a->limb[j];
                sum = _mm256_add_epi64(sum, _mm256_mul_epu32(left, right));
            } else {
                __m256i left;
                if (j % 2 == 1) /* 38 a_j: twice for two odd limbs, or for a mixed product with an even one */
                    left = i != j && i % 2 == 1 ? twice[i] : a->limb[i];
                else
                    left = i != j ? twice[i] : a->limb[i];
                sum = _mm256_add_epi64(sum, _mm256_mul_epu32(left, nineteen[j]));
            }
        }
        t->column[k] = sum;
    }
    CHECK_PRODUCT(t);
}

INLINE void fe_multiply(fe *r, const fe *a, const fe *b)
{
    columns t;
    columns_of_product(&t, a, b);
    carry(r, &t);
}

INLINE void fe_square(fe *r, const fe *a)
{
    columns t;
    columns_of_square(&t, a);
    carry(r, &t);
}

INLINE void fe_square_each(fe *x)
{
    for (int k = 0; k < PAIR; k++)
        fe_square(&x[k], &x[k]);
}

/* Even columns of s and t below 2^61, odd ones below 2^60.6. 2^36 p has even limbs of at least 2^62 - 2^41 and odd ones
 * of 2^61 - 2^36, above them; sums and differences are below 2^63. */
INLINE void carry_both(fe *sum, fe *difference, const columns *s, const columns *t)
{
    columns plus, minus;
    for (int i = 0; i < 10; i++) {
        plus.column[i] = _mm256_add_epi64(s->column[i], t->column[i]);
        minus.column[i] = _mm256_sub_epi64(_mm256_add_epi64(s->column[i], TIMES_P((uint64_t)1 << 36, i)), t->column[i]);
    }
    CHECK_COLUMNS(&plus, 63);
    CHECK_COLUMNS(&minus, 63);
    carry(sum, &plus);
    carry(difference, &minus);
}

INLINE void fe_multiply_both(fe *sum, fe *difference, const fe *a, const fe *b, const fe *c, const fe *d)
{
    columns ab, cd;
    columns_of_product(&ab, a, b);
    columns_of_product(&cd, c, d);
    carry_both(sum, difference, &ab, &cd);
}

INLINE void fe_square_both(fe *sum, fe *difference, const fe *a, const fe *b)
{
    columns aa, bb;
    columns_of_square(&aa, a);
    columns_of_square(&bb, b);
    carry_both(sum, difference, &aa, &bb);
}

INLINE void fe_around_twice(fe *sum, fe *difference, const fe *z, const fe *a, const fe *b)
{
    columns ab, twice;
    CHECK_FACTOR(z);
    columns_of_product(&ab, a, b);
    for (int i = 0; i < 10; i++)
        twice.column[i] = _mm256_add_epi64(z->limb[i], z->limb[i]);
    carry_both(sum, difference, &twice, &ab);
}

/* a and b factors. */
INLINE void fe_add(fe *r, const fe *a, const fe *b)
{
    columns t;
    CHECK_FACTOR(a);
    CHECK_FACTOR(b);
    for (int i = 0; i < 10; i++)
        t.column[i] = _mm256_add_epi64(a->limb[i], b->limb[i]);
    carry_small(r, &t);
}

/* a and b factors; 4 p has limbs of at least 2^28 - 76 and 2^27 - 4. */
INLINE void fe_subtract(fe *r, const fe *a, const fe *b)
{
    columns t;
    CHECK_FACTOR(a);
    CHECK_FACTOR(b);
    for (int i = 0; i < 10; i++)
        t.column[i] = _mm256_sub_epi64(_mm256_add_epi64(a->limb[i], TIMES_P(4, i)), b->limb[i]);
    carry_small(r, &t);
}

/* limbs: in radix 2^51 */
INLINE void fe_constant(fe *r, const uint64_t limbs[5])
{
    for (int i = 0; i < 5; i++) {
        r->limb[2 * i] = SPREAD(limbs[i] & (((uint64_t)1 << 26) - 1));
        r->limb[2 * i + 1] = SPREAD(limbs[i] >> 26);
    }
}

INLINE __m256i lanes_of(unsigned mask)
{
    const __m256i bits = _mm256_set_epi64x(8, 4, 2, 1);
    return _mm256_cmpeq_epi64(_mm256_and_si256(SPREAD(mask), bits), bits);
}

/* a carried -> negated: 2 p has limbs of at least 2^27 - 38 and 2^26 - 2. */
INLINE void fe_negate_where(fe *a, unsigned mask)
{
    __m256i lanes = lanes_of(mask);
    CHECK_CARRIED(a);
    for (int i = 0; i < 10; i++)
        a->limb[i] = _mm256_blendv_epi8(a->limb[i], _mm256_sub_epi64(TIMES_P(2, i), a->limb[i]), lanes);
    CHECK_FACTOR(a);
}

INLINE void fe_select(fe *r, const fe *where_zero, const fe *where_one, unsigned mask)
{
    __m256i lanes = lanes_of(mask);
    for (int i = 0; i < 10; i++)
        r->limb[i] = _mm256_blendv_epi8(where_zero->limb[i], where_one->limb[i], lanes);
}

INLINE void fe_swap_where(fe *a, fe *b, unsigned mask)
{
    __m256i lanes = lanes_of(mask);
    for (int i = 0; i < 10; i++) {
        __m256i both = _mm256_and_si256(_mm256_xor_si256(a->limb[i], b->limb[i]), lanes);
        a->limb[i] = _mm256_xor_si256(a->limb[i], both);
        b->limb[i] = _mm256_xor_si256(b->limb[i], both);
    }
}

/* The value in [0, p). Two rounds of carries, one limb after the other, bring factors below the bits of their limbs, the
 * lowest below 2^26 + 19 x 2, so that the value is below 2 p; adding 19 then shows by bit 255 whether p is to be
 * subtracted. */
static void canonical(fe *r, const fe *a)
{
    __m256i l[10], c = _mm256_setzero_si256();
    CHECK_FACTOR(a);
    memcpy(l, a->limb, sizeof l);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 10; i++) {
            l[i] = _mm256_add_epi64(l[i], c);
            c = _mm256_srli_epi64(l[i], BITS(i));
            l[i] = _mm256_and_si256(l[i], LIMB_MASK(i));
        }
        c = nineteen_times(c);
    }
    l[0] = _mm256_add_epi64(l[0], c);
    c = SPREAD(19);
    for (int i = 0; i < 10; i++)
        c = _mm256_srli_epi64(_mm256_add_epi64(l[i], c), BITS(i));
    c = nineteen_times(c);
    for (int i = 0; i < 10; i++) {
        l[i] = _mm256_add_epi64(l[i], c);
        c = _mm256_srli_epi64(l[i], BITS(i));
        r->limb[i] = _mm256_and_si256(l[i], LIMB_MASK(i));
    }
}

static unsigned fe_zero_lanes(const fe *a)
{
    fe r;
    canonical(&r, a);
    __m256i any = r.limb[0];
    for (int i = 1; i < 10; i++)
        any = _mm256_or_si256(any, r.limb[i]);
    return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(any, _mm256_setzero_si256())));
}

static unsigned fe_odd_lanes(const fe *a)
{
    fe r;
    canonical(&r, a);
    return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_slli_epi64(r.limb[0], 63)));
}

/* Four rows of four words become four vectors with a word of each row, and back. */
INLINE void transpose(__m256i v[4])
{
    __m256i a = _mm256_unpacklo_epi64(v[0], v[1]), b = _mm256_unpackhi_epi64(v[0], v[1]);
    __m256i c = _mm256_unpacklo_epi64(v[2], v[3]), d = _mm256_unpackhi_epi64(v[2], v[3]);
    v[0] = _mm256_permute2x128_si256(a, c, 0x20);
    v[1] = _mm256_permute2x128_si256(b, d, 0x20);
    v[2] = _mm256_permute2x128_si256(a, c, 0x31);
    v[3] = _mm256_permute2x128_si256(b, d, 0x31);
}

/* In a record, a word holds an even limb in its low half and the odd one after it in its high half. */
INLINE void unpack(fe *r, int i, __m256i words)
{
    r->limb[2 * i] = _mm256_and_si256(words, SPREAD(0xffffffff));
    r->limb[2 * i + 1] = _mm256_srli_epi64(words, 32);
}

INLINE __m256i pack(const fe *a, int i)
{
    return _mm256_or_si256(a->limb[2 * i], _mm256_slli_epi64(a->limb[2 * i + 1], 32));
}

/* count is 3 or 4; records have room for whole vectors. */
INLINE void fe_load(fe *r, const uint64_t *const *rows, int count)
{
    for (int first = 0; first < 5 * count; first += 4) {
        __m256i v[4];
        for (int i = 0; i < 4; i++)
            v[i] = _mm256_loadu_si256((const __m256i *)(rows[i] + first));
        transpose(v);
        for (int i = 0; i < 4 && first + i < 5 * count; i++)
            unpack(&r[(first + i) / 5], (first + i) % 5, v[i]);
    }
}

INLINE void fe_store(uint64_t *const *rows, const fe *a, int count)
{
    for (int first = 0; first < 5 * count; first += 4) {
        __m256i v[4];
        for (int i = 0; i < 4; i++)
            v[i] = first + i < 5 * count ? pack(&a[(first + i) / 5], (first + i) % 5) : _mm256_setzero_si256();
        transpose(v);
        for (int i = 0; i < 4; i++)
            _mm256_storeu_si256((__m256i *)(rows[i] + first), v[i]);
    }
}

/* Single elements of five words, without room behind them. */
static inline void fe_load_words(fe *r, const uint64_t *const *rows)
{
    for (int i = 0; i < 5; i++)
        unpack(r, i, _mm256_set_epi64x((int64_t)rows[3][i], (int64_t)rows[2][i], (int64_t)rows[1][i], (int64_t)rows[0][i]));
}

static inline void fe_store_words(uint64_t *const *rows, const fe *a)
{
    for (int i = 0; i < 5; i++) {
        uint64_t lanes[4];
        _mm256_storeu_si256((__m256i *)lanes, pack(a, i));
        for (int lane = 0; lane < 4; lane++)
            rows[lane][i] = lanes[lane];
    }
}

INLINE void fe_from_bytes(fe *r, const uint8_t *const *bytes)
{
    static const int START[10] = {0, 26, 51, 77, 102, 128, 153, 179, 204, 230};
    __m256i w[4];
    for (int i = 0; i < 4; i++)
        w[i] = _mm256_loadu_si256((const __m256i *)bytes[i]);
    transpose(w);
    for (int i = 0; i < 10; i++) {
        int word = START[i] / 64, shift = START[i] % 64;
        __m256i bits = _mm256_srli_epi64(w[word], shift);
        if (shift + BITS(i) > 64)
            bits = _mm256_or_si256(bits, _mm256_slli_epi64(w[word + 1], 64 - shift));
        r->limb[i] = _mm256_and_si256(bits, LIMB_MASK(i));
    }
}

static inline void fe_words_to_radix_51(uint64_t *words, int count)
{
    for (int i = 0; i < count; i++)
        words[i] = (words[i] & 0xffffffff) + (words[i] >> 32 << 26);
}

static inline void fe_words_from_radix_51(uint64_t *words, int count)
{
    for (int i = 0; i < count; i++)
        words[i] = (words[i] & 0x3ffffff) | words[i] >> 26 << 32;
}

/* SHA-512 --------------------------------------------------------------------------------------------------------- */

typedef __m256i word;
#define WORD_ADD(a, b) _mm256_add_epi64(a, b)
#define WORD_SHIFT(a, by) _mm256_srli_epi64(a, by)
#define WORD_ROTATE(a, by) _mm256_or_si256(_mm256_srli_epi64(a, by), _mm256_slli_epi64(a, 64 - (by)))
#define WORD_XOR3(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define WORD_CHOOSE(e, f, g) _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)))
#define WORD_MAJORITY(a, b, c) \
    _mm256_xor_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_xor_si256(a, b)))
#define WORD_CONSTANT(x) SPREAD(x)

INLINE void load_block(word w[16], const uint8_t *const *blocks)
{
    const __m256i swap = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x08090a0b0c0d0e0fLL, 0x0001020304050607LL));
    for (int quarter = 0; quarter < 4; quarter++) {
        for (int i = 0; i < 4; i++)
            w[4 * quarter + i] = _mm256_loadu_si256((const __m256i *)(blocks[i] + 32 * quarter));
        transpose(w + 4 * quarter);
        for (int i = 0; i < 4; i++)
            w[4 * quarter + i] = _mm256_shuffle_epi8(w[4 * quarter + i], swap);
    }
}

INLINE void load_state(word s[8], uint64_t (*state)[P2L_LANES_MAX])
{
    for (int i = 0; i < 8; i++)
        s[i] = _mm256_loadu_si256((const __m256i *)state[i]);
}

INLINE void add_to_state(uint64_t (*state)[P2L_LANES_MAX], const word s[8], unsigned mask)
{
    __m256i lanes = lanes_of(mask);
    for (int i = 0; i < 8; i++) {
        __m256i before = _mm256_loadu_si256((const __m256i *)state[i]);
        _mm256_storeu_si256((__m256i *)state[i], _mm256_add_epi64(before, _mm256_and_si256(s[i], lanes)));
    }
}

#include "sha512_lanes.h"

#include "ed25519_lanes.h"

#else
typedef int p2l_nothing_here; /* An empty file is not C. */
#endif
