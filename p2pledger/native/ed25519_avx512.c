/* Ed25519 at the level avx512: eight lanes, radix 2^51, with the 52-bit multiply-add of AVX-512 IFMA.
 *
 * The danger of this instruction is that it takes only the lower 52 bits of a factor, in silence. So every element that
 * is multiplied has limbs below 2^52, and this is how:
 *
 *   carried   limbs below 2^51 + 2^17: what every function returns, except
 *   negated   limbs of at most 2^52 - 2: 2 p minus a carried element; goes nowhere but into a multiplication.
 *
 * Sums and differences of products are formed from the columns before the carries, so that there is one pass of
 * carries per element and never an element that has not had one. The bounds of columns, in units of 2^52, stand at
 * columns_of_product. One pass leaves limbs below 2^51 + (largest column / 2^51), the lowest below
 * 2^51 + 19 x (topmost column / 2^51). P2L_DEBUG checks every bound that is written here. */

#include "ed25519.h"

#ifdef P2L_X86_64

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,bmi2")
#include <immintrin.h>

#define LANES 8
#define PAIR 2
#define LEAST 2
#define FEW 8
#define LEVEL(name) name##_avx512
#define INLINE P2L_INLINE

typedef struct {
    __m512i limb[5];
} fe;

/* Uncarried limbs: column i counts 2^(51 i). */
typedef struct {
    __m512i column[5];
} columns;

#define MASK _mm512_set1_epi64(((int64_t)1 << 51) - 1)
#define SPREAD(number) _mm512_set1_epi64((int64_t)(number))

INLINE void check_below(const __m512i *limbs, uint64_t bound)
{
#ifdef P2L_DEBUG
    for (int i = 0; i < 5; i++)
        assert(_mm512_cmpge_epu64_mask(limbs[i], SPREAD(bound)) == 0);
#else
    (void)limbs, (void)bound;
#endif
}
#define FACTOR ((uint64_t)1 << 52)
#define CARRIED (((uint64_t)1 << 51) + ((uint64_t)1 << 17))
#define UNITS(number) ((uint64_t)(number) << 52)

/* m p, limb by limb, for differences: it must be at least what is subtracted, in every limb. */
#define TIMES_P(m, i) SPREAD((uint64_t)(m) * (((uint64_t)1 << 51) - ((i) == 0 ? 19 : 1)))

/* Columns below 779 units -> carried: the carries are below 2^11, 19 times the topmost below 2^16. */
INLINE void carry(fe *r, const columns *t)
{
    __m512i c[5];
    for (int i = 0; i < 5; i++)
        c[i] = _mm512_srli_epi64(t->column[i], 51);
    r->limb[0] = _mm512_madd52lo_epu64(_mm512_and_si512(t->column[0], MASK), c[4], SPREAD(19));
    for (int i = 1; i < 5; i++)
        r->limb[i] = _mm512_add_epi64(_mm512_and_si512(t->column[i], MASK), c[i - 1]);
    check_below(r->limb, CARRIED);
}

/* Columns 5 .. 9 come back as 19 times columns 0 .. 4, since 2^255 = 19. */
/* The compiler is kept from turning the multiplication into shifts and additions, which take more room than it. */
INLINE __m512i nineteen_times(__m512i number)
{
    __m512i nineteen = SPREAD(19);
    __asm__("" : "+v"(nineteen));
    return _mm512_mullo_epi64(number, nineteen);
}

INLINE void fold(columns *t, const __m512i *r)
{
    for (int i = 0; i < 5; i++) {
        t->column[i] = _mm512_add_epi64(r[i], nineteen_times(r[i + 5]));
    }
}

/* Factors below 2^52. A product a_i b_j of 104 bits has its low 52 bits in column i + j and its high ones, times two
 * because a column has 51 bits, in column i + j + 1. Low and high halves are below one unit each, so that the columns
 * 0 .. 9 are below 1, 4, 7, 10, 13, 14, 11, 8, 5, 2 units and, folded, below 267, 213, 159, 105, 51 units.
 *
 * All high halves are added up first, then doubled, then the low halves come on top. */
INLINE void columns_of_product(columns *t, const fe *a, const fe *b)
{
    check_below(a->limb, FACTOR);
    check_below(b->limb, FACTOR);
    __m512i r[10];
    for (int k = 0; k < 10; k++)
        r[k] = _mm512_setzero_si512();
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++)
            r[i + j + 1] = _mm512_madd52hi_epu64(r[i + j + 1], a->limb[i], b->limb[j]);
    for (int k = 1; k < 10; k++)
        r[k] = _mm512_add_epi64(r[k], r[k]);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++)
            r[i + j] = _mm512_madd52lo_epu64(r[i + j], a->limb[i], b->limb[j]);
    fold(t, r);
    check_below(t->column, UNITS(267));
}

#define EACH_CHAIN _Pragma("GCC unroll 2") for (int k = 0; k < chains; k++)

/* The same bounds for the squares of `chains` elements, step by step side by side, so that each hides the latency of
 * the other. The mixed products count twice: their high halves are doubled before those of the squares and the mixed
 * low halves join them, then all are doubled, then the low halves of the squares come on top. */
INLINE void columns_of_squares(columns *t, const fe *a, const int chains)
{
    __m512i r[10][PAIR];
    EACH_CHAIN check_below(a[k].limb, FACTOR);
#pragma GCC unroll 10
    for (int n = 0; n < 10; n++)
        EACH_CHAIN r[n][k] = _mm512_setzero_si512();
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
#pragma GCC unroll 5
        for (int j = i + 1; j < 5; j++)
            EACH_CHAIN r[i + j + 1][k] = _mm512_madd52hi_epu64(r[i + j + 1][k], a[k].limb[i], a[k].limb[j]);
#pragma GCC unroll 10
    for (int n = 2; n < 9; n++)
        EACH_CHAIN r[n][k] = _mm512_add_epi64(r[n][k], r[n][k]);
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
        EACH_CHAIN r[2 * i + 1][k] = _mm512_madd52hi_epu64(r[2 * i + 1][k], a[k].limb[i], a[k].limb[i]);
#pragma GCC unroll 5
        for (int j = i + 1; j < 5; j++)
            EACH_CHAIN r[i + j][k] = _mm512_madd52lo_epu64(r[i + j][k], a[k].limb[i], a[k].limb[j]);
    }
#pragma GCC unroll 10
    for (int n = 1; n < 10; n++)
        EACH_CHAIN r[n][k] = _mm512_add_epi64(r[n][k], r[n][k]);
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
        EACH_CHAIN r[2 * i][k] = _mm512_madd52lo_epu64(r[2 * i][k], a[k].limb[i], a[k].limb[i]);
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
        EACH_CHAIN t[k].column[i] = _mm512_add_epi64(r[i][k], nineteen_times(r[i + 5][k]));
    EACH_CHAIN check_below(t[k].column, UNITS(267));
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
    columns_of_squares(&t, a, 1);
    carry(r, &t);
}

INLINE void fe_square_each(fe *x)
{
    columns t[PAIR];
    columns_of_squares(t, x, PAIR);
    for (int k = 0; k < PAIR; k++)
        carry(&x[k], &t[k]);
}

/* s and t below 267 units; 1024 p is at least 2^61 - 2^15, above them. Sums below 534, differences below 267 + 512
 * units: below 2^62. */
INLINE void carry_both(fe *sum, fe *difference, const columns *s, const columns *t)
{
    columns plus, minus;
    for (int i = 0; i < 5; i++) {
        plus.column[i] = _mm512_add_epi64(s->column[i], t->column[i]);
        minus.column[i] = _mm512_sub_epi64(_mm512_add_epi64(s->column[i], TIMES_P(1024, i)), t->column[i]);
    }
    check_below(plus.column, UNITS(534));
    check_below(minus.column, UNITS(779));
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
    columns_of_squares(&aa, a, 1);
    columns_of_squares(&bb, b, 1);
    carry_both(sum, difference, &aa, &bb);
}

/* 2z is below 2 units. */
INLINE void fe_around_twice(fe *sum, fe *difference, const fe *z, const fe *a, const fe *b)
{
    columns ab, twice;
    check_below(z->limb, FACTOR);
    columns_of_product(&ab, a, b);
    for (int i = 0; i < 5; i++)
        twice.column[i] = _mm512_add_epi64(z->limb[i], z->limb[i]);
    carry_both(sum, difference, &twice, &ab);
}

/* a and b below 2^52. */
INLINE void fe_add(fe *r, const fe *a, const fe *b)
{
    columns t;
    check_below(a->limb, FACTOR);
    check_below(b->limb, FACTOR);
    for (int i = 0; i < 5; i++)
        t.column[i] = _mm512_add_epi64(a->limb[i], b->limb[i]);
    carry(r, &t);
}

/* a and b below 2^52; 4 p has limbs of at least 2^53 - 76. */
INLINE void fe_subtract(fe *r, const fe *a, const fe *b)
{
    columns t;
    check_below(a->limb, FACTOR);
    check_below(b->limb, FACTOR);
    for (int i = 0; i < 5; i++)
        t.column[i] = _mm512_sub_epi64(_mm512_add_epi64(a->limb[i], TIMES_P(4, i)), b->limb[i]);
    carry(r, &t);
}

INLINE void fe_constant(fe *r, const uint64_t limbs[5])
{
    for (int i = 0; i < 5; i++)
        r->limb[i] = SPREAD(limbs[i]);
}

/* a carried -> negated: 2 p has limbs of at least 2^52 - 38 and at most 2^52 - 2. */
INLINE void fe_negate_where(fe *a, unsigned mask)
{
    check_below(a->limb, CARRIED);
    for (int i = 0; i < 5; i++)
        a->limb[i] = _mm512_mask_sub_epi64(a->limb[i], (__mmask8)mask, TIMES_P(2, i), a->limb[i]);
    check_below(a->limb, FACTOR - 1);
}

INLINE void fe_select(fe *r, const fe *where_zero, const fe *where_one, unsigned mask)
{
    for (int i = 0; i < 5; i++)
        r->limb[i] = _mm512_mask_blend_epi64((__mmask8)mask, where_zero->limb[i], where_one->limb[i]);
}

INLINE void fe_swap_where(fe *a, fe *b, unsigned mask)
{
    for (int i = 0; i < 5; i++) {
        __m512i kept = a->limb[i];
        a->limb[i] = _mm512_mask_mov_epi64(kept, (__mmask8)mask, b->limb[i]);
        b->limb[i] = _mm512_mask_mov_epi64(b->limb[i], (__mmask8)mask, kept);
    }
}

/* The value in [0, p). Two rounds of carries, one limb after the other, bring limbs below 2^52 below 2^51, the lowest
 * below 2^51 + 19 x 2, so that the value is below 2 p; adding 19 then shows by bit 255 whether p is to be subtracted. */
static void canonical(fe *r, const fe *a)
{
    __m512i l[5], c = _mm512_setzero_si512(), nineteen = SPREAD(19);
    check_below(a->limb, FACTOR);
    memcpy(l, a->limb, sizeof l);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5; i++) {
            l[i] = _mm512_add_epi64(l[i], c);
            c = _mm512_srli_epi64(l[i], 51);
            l[i] = _mm512_and_si512(l[i], MASK);
        }
        c = _mm512_madd52lo_epu64(_mm512_setzero_si512(), c, nineteen);
    }
    l[0] = _mm512_add_epi64(l[0], c);
    c = nineteen;
    for (int i = 0; i < 5; i++)
        c = _mm512_srli_epi64(_mm512_add_epi64(l[i], c), 51);
    c = _mm512_madd52lo_epu64(_mm512_setzero_si512(), c, nineteen);
    for (int i = 0; i < 5; i++) {
        l[i] = _mm512_add_epi64(l[i], c);
        c = _mm512_srli_epi64(l[i], 51);
        r->limb[i] = _mm512_and_si512(l[i], MASK);
    }
}

static unsigned fe_zero_lanes(const fe *a)
{
    fe r;
    canonical(&r, a);
    __m512i any = _mm512_or_si512(_mm512_or_si512(r.limb[0], r.limb[1]), _mm512_or_si512(r.limb[2], r.limb[3]));
    any = _mm512_or_si512(any, r.limb[4]);
    return (unsigned)_mm512_testn_epi64_mask(any, any);
}

static unsigned fe_odd_lanes(const fe *a)
{
    fe r;
    canonical(&r, a);
    return (unsigned)_mm512_test_epi64_mask(r.limb[0], SPREAD(1));
}

/* Eight rows of eight words become eight vectors with a word of each row, and back. */
INLINE void transpose(__m512i v[8])
{
    __m512i t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_epi64(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi64(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            u[i + j] = _mm512_shuffle_i64x2(t[i + j], t[i + j + 2], 0x88);
            u[i + j + 2] = _mm512_shuffle_i64x2(t[i + j], t[i + j + 2], 0xdd);
        }
    /* u[j]: words j, j + 4 of rows 0 .. 3; u[j + 2]: words j + 2, j + 6 */
    for (int j = 0; j < 4; j++) {
        v[j] = _mm512_shuffle_i64x2(u[j], u[j + 4], 0x88);
        v[j + 4] = _mm512_shuffle_i64x2(u[j], u[j + 4], 0xdd);
    }
}

/* count is 3 or 4; records have room for whole vectors. */
INLINE void fe_load(fe *r, const uint64_t *const *rows, int count)
{
    for (int first = 0; first < 5 * count; first += 8) {
        __m512i v[8];
        for (int i = 0; i < 8; i++)
            v[i] = _mm512_loadu_si512(rows[i] + first);
        transpose(v);
        for (int i = 0; i < 8 && first + i < 5 * count; i++)
            r[(first + i) / 5].limb[(first + i) % 5] = v[i];
    }
}

INLINE void fe_store(uint64_t *const *rows, const fe *a, int count)
{
    for (int first = 0; first < 5 * count; first += 8) {
        __m512i v[8];
        for (int i = 0; i < 8; i++)
            v[i] = first + i < 5 * count ? a[(first + i) / 5].limb[(first + i) % 5] : _mm512_setzero_si512();
        transpose(v);
        for (int i = 0; i < 8; i++)
            _mm512_storeu_si512(rows[i] + first, v[i]);
    }
}

/* Single elements of five words, without room behind them. */
static inline void fe_load_words(fe *r, const uint64_t *const *rows)
{
    for (int i = 0; i < 5; i++)
        r->limb[i] = _mm512_set_epi64((int64_t)rows[7][i], (int64_t)rows[6][i], (int64_t)rows[5][i], (int64_t)rows[4][i],
                                      (int64_t)rows[3][i], (int64_t)rows[2][i], (int64_t)rows[1][i], (int64_t)rows[0][i]);
}

static inline void fe_store_words(uint64_t *const *rows, const fe *a)
{
    for (int i = 0; i < 5; i++) {
        uint64_t lanes[8];
        _mm512_storeu_si512(lanes, a->limb[i]);
        for (int lane = 0; lane < 8; lane++)
            rows[lane][i] = lanes[lane];
    }
}

INLINE void fe_from_bytes(fe *r, const uint8_t *const *bytes)
{
    __m512i v[8], w[4];
    for (int i = 0; i < 8; i++)
        v[i] = _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)bytes[i]));
    transpose(v);
    memcpy(w, v, sizeof w);
    r->limb[0] = _mm512_and_si512(w[0], MASK);
    r->limb[1] = _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(w[0], 51), _mm512_slli_epi64(w[1], 13)), MASK);
    r->limb[2] = _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(w[1], 38), _mm512_slli_epi64(w[2], 26)), MASK);
    r->limb[3] = _mm512_and_si512(_mm512_or_si512(_mm512_srli_epi64(w[2], 25), _mm512_slli_epi64(w[3], 39)), MASK);
    r->limb[4] = _mm512_and_si512(_mm512_srli_epi64(w[3], 12), MASK);
}

/* Records are in radix 2^51 here. */
static inline void fe_words_to_radix_51(uint64_t *words, int count)
{
    (void)words, (void)count;
}

static inline void fe_words_from_radix_51(uint64_t *words, int count)
{
    (void)words, (void)count;
}

/* SHA-512 --------------------------------------------------------------------------------------------------------- */

typedef __m512i word;
#define WORD_ADD(a, b) _mm512_add_epi64(a, b)
#define WORD_ROTATE(a, by) _mm512_ror_epi64(a, by)
#define WORD_SHIFT(a, by) _mm512_srli_epi64(a, by)
#define WORD_XOR3(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define WORD_CHOOSE(e, f, g) _mm512_ternarylogic_epi64(e, f, g, 0xca)
#define WORD_MAJORITY(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0xe8)
#define WORD_CONSTANT(x) SPREAD(x)

INLINE void load_block(word w[16], const uint8_t *const *blocks)
{
    const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x08090a0b0c0d0e0fLL, 0x0001020304050607LL));
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 8; i++)
            w[8 * half + i] = _mm512_loadu_si512(blocks[i] + 64 * half);
        transpose(w + 8 * half);
        for (int i = 0; i < 8; i++)
            w[8 * half + i] = _mm512_shuffle_epi8(w[8 * half + i], swap);
    }
}

INLINE void load_state(word s[8], uint64_t (*state)[P2L_LANES_MAX])
{
    for (int i = 0; i < 8; i++)
        s[i] = _mm512_loadu_si512(state[i]);
}

INLINE void add_to_state(uint64_t (*state)[P2L_LANES_MAX], const word s[8], unsigned mask)
{
    for (int i = 0; i < 8; i++) {
        __m512i before = _mm512_loadu_si512(state[i]);
        _mm512_storeu_si512(state[i], _mm512_mask_add_epi64(before, (__mmask8)mask, before, s[i]));
    }
}

#include "sha512_lanes.h"

#include "ed25519_lanes.h"

#else
typedef int p2l_nothing_here; /* An empty file is not C. */
#endif
