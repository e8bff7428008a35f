/* Ed25519 at the level portable: one lane, radix 2^51, products of 64 by 64 bits.
 *
 * Bounds. Elements come in two kinds. *Carried*, what a multiplication returns: limbs below 2^51 + 2^15. *Loose*, what
 * any function may return: limbs below 2^54. Multiplications accept loose operands: a column is at most
 * 77 x 2^108 < 2^115. Subtraction adds 4 p, with limbs of at least 2^53 - 76, to what must not get below
 * zero; so a subtrahend must be below 2^53 - 76. Carried elements and the sum of two of them are. Beside each function
 * stands what it accepts and returns; P2L_DEBUG checks it. */

#include "ed25519.h"

#define LANES 1
#define PAIR 2
#define LEAST 0
#define FEW 6
#define LEVEL(name) name##_portable

typedef struct {
    uint64_t limb[5];
} fe;

static const uint64_t MASK = ((uint64_t)1 << 51) - 1;
/* 4 p */
static const uint64_t FOUR_P[5] = {0x1fffffffffffb4, 0x1ffffffffffffc, 0x1ffffffffffffc, 0x1ffffffffffffc,
                                   0x1ffffffffffffc};

static inline void check_below(const fe *a, uint64_t bound)
{
#ifdef P2L_DEBUG
    for (int i = 0; i < 5; i++)
        assert(a->limb[i] < bound);
#else
    (void)a, (void)bound;
#endif
}
#define LOOSE ((uint64_t)1 << 54)
#define SUBTRACTABLE FOUR_P[0]
#define CARRIED (((uint64_t)1 << 51) + ((uint64_t)1 << 15))

/* Columns of 128 bits. */
#ifdef __SIZEOF_INT128__
typedef unsigned __int128 wide;
#define WIDE_PRODUCT(a, b) ((wide)(a) * (b))
#define WIDE_ADD(sum, a, b) ((sum) += (wide)(a) * (b))
#define WIDE_LOW(sum) ((uint64_t)(sum))
/* Written as a sum because the double shift into which compilers turn everything else is slow on some processors. */
#define WIDE_HIGH_51(sum) (((uint64_t)(sum) >> 51) + ((uint64_t)((sum) >> 64) << 13))
#else
typedef struct {
    uint64_t low, high;
} wide;
static inline void wide_add(wide *sum, uint64_t a, uint64_t b)
{
    uint64_t carry = 0, low = p2l_multiply_add(a, b, sum->low, &carry);
    sum->low = low;
    sum->high += carry;
}
static inline wide wide_product(uint64_t a, uint64_t b)
{
    wide product = {0, 0};
    wide_add(&product, a, b);
    return product;
}
#define WIDE_PRODUCT(a, b) wide_product(a, b)
#define WIDE_ADD(sum, a, b) wide_add(&(sum), a, b)
#define WIDE_LOW(sum) ((sum).low)
#define WIDE_HIGH_51(sum) (((sum).low >> 51) + ((sum).high << 13))
#endif

/* Columns of products of loose factors, with a_i b_j times 19 where i + j > 4: column i is below
 * (i + 1 + 19 (4 - i)) 2^108, from 77 x 2^108 for the lowest to 5 x 2^108 for the topmost. So the carries of the first
 * round are below 77 x 2^57 < 2^63.3, 19 times the topmost below 95 x 2^57 < 2^63.6, and each fits in a word with a limb
 * of 51 bits. The carries of the second round are below 2^12.6, the topmost one, of at most 24 x 2^57 + 2^51, below
 * 24 x 2^6 + 1, and 19 of it below 2^15. Both rounds go limb by limb in parallel: there is no chain. */
static inline void carry(fe *r, wide t0, wide t1, wide t2, wide t3, wide t4)
{
    uint64_t r0 = (WIDE_LOW(t0) & MASK) + 19 * WIDE_HIGH_51(t4);
    uint64_t r1 = (WIDE_LOW(t1) & MASK) + WIDE_HIGH_51(t0);
    uint64_t r2 = (WIDE_LOW(t2) & MASK) + WIDE_HIGH_51(t1);
    uint64_t r3 = (WIDE_LOW(t3) & MASK) + WIDE_HIGH_51(t2);
    uint64_t r4 = (WIDE_LOW(t4) & MASK) + WIDE_HIGH_51(t3);
    r->limb[0] = (r0 & MASK) + 19 * (r4 >> 51);
    r->limb[1] = (r1 & MASK) + (r0 >> 51);
    r->limb[2] = (r2 & MASK) + (r1 >> 51);
    r->limb[3] = (r3 & MASK) + (r2 >> 51);
    r->limb[4] = (r4 & MASK) + (r3 >> 51);
    check_below(r, CARRIED);
}

/* Loose operands, carried result. */
static inline void fe_multiply(fe *r, const fe *a, const fe *b)
{
    check_below(a, LOOSE);
    check_below(b, LOOSE);
    uint64_t a0 = a->limb[0], a1 = a->limb[1], a2 = a->limb[2], a3 = a->limb[3], a4 = a->limb[4];
    uint64_t b0 = b->limb[0], b1 = b->limb[1], b2 = b->limb[2], b3 = b->limb[3], b4 = b->limb[4];
    uint64_t b1_19 = 19 * b1, b2_19 = 19 * b2, b3_19 = 19 * b3, b4_19 = 19 * b4; /* below 2^59 */
    wide t0 = WIDE_PRODUCT(a0, b0), t1 = WIDE_PRODUCT(a0, b1), t2 = WIDE_PRODUCT(a0, b2), t3 = WIDE_PRODUCT(a0, b3),
         t4 = WIDE_PRODUCT(a0, b4);
    WIDE_ADD(t0, a1, b4_19);
    WIDE_ADD(t1, a1, b0);
    WIDE_ADD(t2, a1, b1);
    WIDE_ADD(t3, a1, b2);
    WIDE_ADD(t4, a1, b3);
    WIDE_ADD(t0, a2, b3_19);
    WIDE_ADD(t1, a2, b4_19);
    WIDE_ADD(t2, a2, b0);
    WIDE_ADD(t3, a2, b1);
    WIDE_ADD(t4, a2, b2);
    WIDE_ADD(t0, a3, b2_19);
    WIDE_ADD(t1, a3, b3_19);
    WIDE_ADD(t2, a3, b4_19);
    WIDE_ADD(t3, a3, b0);
    WIDE_ADD(t4, a3, b1);
    WIDE_ADD(t0, a4, b1_19);
    WIDE_ADD(t1, a4, b2_19);
    WIDE_ADD(t2, a4, b3_19);
    WIDE_ADD(t3, a4, b4_19);
    WIDE_ADD(t4, a4, b0);
    carry(r, t0, t1, t2, t3, t4);
}

/* Loose operand, carried result. */
static inline void fe_square(fe *r, const fe *a)
{
    check_below(a, LOOSE);
    uint64_t a0 = a->limb[0], a1 = a->limb[1], a2 = a->limb[2], a3 = a->limb[3], a4 = a->limb[4];
    uint64_t a0_2 = 2 * a0, a1_2 = 2 * a1, a3_19 = 19 * a3, a4_19 = 19 * a4, a4_38 = 2 * a4_19; /* below 2^60 */
    wide t0 = WIDE_PRODUCT(a0, a0), t1 = WIDE_PRODUCT(a0_2, a1), t2 = WIDE_PRODUCT(a0_2, a2),
         t3 = WIDE_PRODUCT(a0_2, a3), t4 = WIDE_PRODUCT(a0_2, a4);
    WIDE_ADD(t0, a1, a4_38);
    WIDE_ADD(t0, 2 * a2, a3_19);
    WIDE_ADD(t1, a2, a4_38);
    WIDE_ADD(t1, a3, a3_19);
    WIDE_ADD(t2, a1, a1);
    WIDE_ADD(t2, a3, a4_38);
    WIDE_ADD(t3, a1_2, a2);
    WIDE_ADD(t3, a4, a4_19);
    WIDE_ADD(t4, a1_2, a3);
    WIDE_ADD(t4, a2, a2);
    carry(r, t0, t1, t2, t3, t4);
}

static inline void fe_square_each(fe *x)
{
    for (int k = 0; k < PAIR; k++)
        fe_square(&x[k], &x[k]);
}

/* a and b below 2^53; no carry: result below 2^54. */
static inline void add_only(fe *r, const fe *a, const fe *b)
{
    for (int i = 0; i < 5; i++)
        r->limb[i] = a->limb[i] + b->limb[i];
    check_below(r, LOOSE);
}

/* a below 2^53, b below 4 p; no carry: result below 2^54. */
static inline void subtract_only(fe *r, const fe *a, const fe *b)
{
    check_below(b, SUBTRACTABLE);
    for (int i = 0; i < 5; i++)
        r->limb[i] = a->limb[i] + FOUR_P[i] - b->limb[i];
    check_below(r, LOOSE);
}

/* Limbs below 2^55 -> below 2^51 + 2^9. */
static inline void tighten(fe *r)
{
    uint64_t c[5];
    for (int i = 0; i < 5; i++)
        c[i] = r->limb[i] >> 51;
    r->limb[0] = (r->limb[0] & MASK) + 19 * c[4];
    for (int i = 1; i < 5; i++)
        r->limb[i] = (r->limb[i] & MASK) + c[i - 1];
    check_below(r, CARRIED);
}

/* Loose operands, carried results. */
static inline void fe_add(fe *r, const fe *a, const fe *b)
{
    for (int i = 0; i < 5; i++)
        r->limb[i] = a->limb[i] + b->limb[i];
    tighten(r);
}

/* b may have limbs of up to 2^54: 8 p. Results carried. */
static inline void fe_subtract(fe *r, const fe *a, const fe *b)
{
    check_below(a, LOOSE);
    check_below(b, 2 * SUBTRACTABLE);
    for (int i = 0; i < 5; i++)
        r->limb[i] = a->limb[i] + 2 * FOUR_P[i] - b->limb[i];
    tighten(r);
}

static inline void fe_constant(fe *r, const uint64_t limbs[5])
{
    memcpy(r->limb, limbs, sizeof r->limb);
}

static inline void fe_multiply_both(fe *sum, fe *difference, const fe *a, const fe *b, const fe *c, const fe *d)
{
    fe ab, cd;
    fe_multiply(&ab, a, b);
    fe_multiply(&cd, c, d);
    add_only(sum, &ab, &cd);             /* below 2^52 + 2^16 */
    subtract_only(difference, &ab, &cd); /* below 2^53 + 2^51 + 2^15 */
}

static inline void fe_square_both(fe *sum, fe *difference, const fe *a, const fe *b)
{
    fe aa, bb;
    fe_square(&aa, a);
    fe_square(&bb, b);
    add_only(sum, &aa, &bb);
    subtract_only(difference, &aa, &bb);
}

/* z must be carried. */
static inline void fe_around_twice(fe *sum, fe *difference, const fe *z, const fe *a, const fe *b)
{
    fe ab, twice;
    fe_multiply(&ab, a, b);
    add_only(&twice, z, z);                 /* below 2^52 + 2^16 */
    add_only(sum, &twice, &ab);             /* below 2^53 */
    subtract_only(difference, &twice, &ab); /* below 2^53 + 2^52 + 2^16 */
}

/* a carried; result below 2^53. */
static inline void fe_negate_where(fe *a, unsigned mask)
{
    static const fe ZERO;
    if (mask & 1)
        subtract_only(a, &ZERO, a);
}

static inline void fe_select(fe *r, const fe *where_zero, const fe *where_one, unsigned mask)
{
    *r = mask & 1 ? *where_one : *where_zero;
}

static inline void fe_swap_where(fe *a, fe *b, unsigned mask)
{
    if (mask & 1) {
        fe kept = *a;
        *a = *b;
        *b = kept;
    }
}

/* The value in [0, p). Two rounds of carries bring limbs below 2^54 below 2^51, the lowest below 2^51 + 19, so that the
 * value is below 2 p; adding 19 then shows by bit 255 whether p is to be subtracted. */
static inline void canonical(fe *r, const fe *a)
{
    uint64_t l[5], c = 0;
    memcpy(l, a->limb, sizeof l);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5; i++) {
            l[i] += c;
            c = l[i] >> 51;
            l[i] &= MASK;
        }
        c *= 19;
    }
    l[0] += c;
    c = 19;
    for (int i = 0; i < 5; i++)
        c = (l[i] + c) >> 51;
    c *= 19;
    for (int i = 0; i < 5; i++) {
        l[i] += c;
        c = l[i] >> 51;
        r->limb[i] = l[i] & MASK;
    }
}

static inline unsigned fe_zero_lanes(const fe *a)
{
    fe r;
    canonical(&r, a);
    return (r.limb[0] | r.limb[1] | r.limb[2] | r.limb[3] | r.limb[4]) == 0;
}

static inline unsigned fe_odd_lanes(const fe *a)
{
    fe r;
    canonical(&r, a);
    return r.limb[0] & 1;
}

static inline void fe_from_bytes(fe *r, const uint8_t *const *bytes)
{
    uint64_t w0 = p2l_load64_little(bytes[0]), w1 = p2l_load64_little(bytes[0] + 8);
    uint64_t w2 = p2l_load64_little(bytes[0] + 16), w3 = p2l_load64_little(bytes[0] + 24);
    r->limb[0] = w0 & MASK;
    r->limb[1] = (w0 >> 51 | w1 << 13) & MASK;
    r->limb[2] = (w1 >> 38 | w2 << 26) & MASK;
    r->limb[3] = (w2 >> 25 | w3 << 39) & MASK;
    r->limb[4] = w3 >> 12 & MASK;
}

static inline void fe_load(fe *r, const uint64_t *const *rows, int count)
{
    for (int i = 0; i < count; i++)
        memcpy(r[i].limb, rows[0] + 5 * i, sizeof r->limb);
}

/* Stored elements are carried: what is loaded can be negated, doubled and added. */
static inline void fe_store(uint64_t *const *rows, const fe *a, int count)
{
    for (int i = 0; i < count; i++) {
        fe r = a[i];
        tighten(&r);
        memcpy(rows[0] + 5 * i, r.limb, sizeof r.limb);
    }
}

#define fe_load_words(r, rows) fe_load(r, rows, 1)
#define fe_store_words(rows, a) fe_store(rows, a, 1)

/* Records are in radix 2^51 here. */
static inline void fe_words_to_radix_51(uint64_t *words, int count)
{
    (void)words, (void)count;
}

static inline void fe_words_from_radix_51(uint64_t *words, int count)
{
    (void)words, (void)count;
}

/* SHA-512 (FIPS 180-4) -------------------------------------------------------------------------------------------- */

typedef uint64_t word;
#define WORD_ADD(a, b) ((a) + (b))
#define WORD_XOR3(a, b, c) ((a) ^ (b) ^ (c))
#define WORD_ROTATE(a, by) ((a) >> (by) | (a) << (64 - (by)))
#define WORD_SHIFT(a, by) ((a) >> (by))
#define WORD_CHOOSE(e, f, g) ((g) ^ ((e) & ((f) ^ (g))))
#define WORD_MAJORITY(a, b, c) (((a) & (b)) ^ ((c) & ((a) ^ (b))))
#define WORD_CONSTANT(x) (x)

static inline void load_block(word w[16], const uint8_t *const *blocks)
{
    for (int i = 0; i < 16; i++)
        w[i] = (uint64_t)p2l_load32(blocks[0] + 8 * i) << 32 | p2l_load32(blocks[0] + 8 * i + 4);
}

static inline void load_state(word s[8], uint64_t (*state)[P2L_LANES_MAX])
{
    for (int i = 0; i < 8; i++)
        s[i] = state[i][0];
}

static inline void add_to_state(uint64_t (*state)[P2L_LANES_MAX], const word s[8], unsigned mask)
{
    for (int i = 0; i < 8 && mask & 1; i++)
        state[i][0] += s[i];
}

#include "sha512_lanes.h"

#include "ed25519_lanes.h"

static void point_add(point *p, const point *q)
{
    prepared addend;
    point_prepare(&addend, q);
    point_add_prepared(p, &addend);
}

static void point_read(point *p, const uint64_t record[P2L_POINT_WORDS])
{
    point_load(p, &record);
}

static void point_write(uint64_t record[P2L_POINT_WORDS], const point *p)
{
    point_store(&record, p);
}

void p2l_ed25519_combine(const uint64_t (*sums)[P2L_POINT_WORDS], const uint32_t *starts, size_t count,
                         uint64_t total[P2L_POINT_WORDS])
{
    point running, sum;
    point_neutral(&running);
    for (size_t i = count; i-- > 0;) {
        point_read(&sum, sums[i]);
        point_add(&running, &sum);
        uint32_t doublings = starts[i] - (i > 0 ? starts[i - 1] : 0);
        while (doublings-- > 0)
            point_double(&running);
    }
    point_write(total, &running);
}

void p2l_ed25519_difference(const uint64_t one[P2L_POINT_WORDS], const uint64_t other[P2L_POINT_WORDS],
                            uint64_t result[P2L_POINT_WORDS])
{
    point p, q;
    point_read(&p, one);
    point_read(&q, other);
    fe_swap_where(&q.plus, &q.minus, 1);
    fe_negate_where(&q.t, 1);
    point_add(&p, &q);
    point_write(result, &p);
}

int p2l_ed25519_is_small(const uint64_t record[P2L_POINT_WORDS])
{
    point p;
    point_read(&p, record);
    for (int i = 0; i < 3; i++)
        point_double(&p);
    return (int)point_neutral_lanes(&p);
}
