/* The curve, written once for all levels: the file of a level defines its field and includes this one.
 *
 * The curve is -x^2 + y^2 = 1 + d x^2 y^2 modulo p = 2^255 - 19. A point is kept as (Y + X, Y - X, Z, T) with
 * x = X/Z, y = Y/Z, T = XY/Z: the sums of the extended coordinates of Hisil, Wong, Carter and Dawson (2008) are what
 * the next addition wants. The addition formulas are complete for this curve, since -1 is a square and d is not: equal
 * points, opposite points, the identity and points of small order need no special case, and there is none here.
 *
 * Every vector holds LANES independent elements. What the including file defines:
 *
 *   LANES, PAIR              elements per vector; how many chains of squarings run interleaved
 *   LEAST, FEW               see struct p2l_ed25519_kernels
 *   fe                       a vector of field elements; every function accepts what every function returns
 *   fe_multiply, fe_square, fe_add, fe_subtract, fe_constant
 *   fe_square_each           PAIR elements squared, side by side
 *   fe_multiply_both         sum = ab + cd, difference = ab - cd
 *   fe_square_both           sum = a^2 + b^2, difference = a^2 - b^2
 *   fe_around_twice          sum = 2z + ab, difference = 2z - ab
 *   fe_negate_where, fe_select, fe_swap_where       under a mask of one bit per lane
 *   fe_zero_lanes, fe_odd_lanes                     masks, of the canonical value
 *   fe_from_bytes, fe_load, fe_store                255 bits from each of LANES pointers; records of words
 *   LEVEL(name)              the name with the level's suffix */

#include "ed25519.h"

typedef struct {
    fe plus, minus, z, t; /* Y + X, Y - X, Z, T */
} point;

typedef struct {
    fe plus, minus, t2d; /* y + x, y - x, 2dxy */
} affine;

typedef struct {
    fe plus, minus, z, t2d; /* Y + X, Y - X, Z, 2dT */
} prepared;

static const uint64_t CURVE_D[5] = {0x34dca135978a3, 0x1a8283b156ebd, 0x5e7a26001c029, 0x739c663a03cbb,
                                    0x52036cee2b6ff};
static const uint64_t CURVE_2D[5] = {0x69b9426b2f159, 0x35050762add7a, 0x3cf44c0038052, 0x6738cc7407977,
                                     0x2406d9dc56dff};
static const uint64_t CURVE_1_OVER_D[5] = {0xf276cdc9f843, 0x3084f2a85c4bc, 0x6e73d982d775a, 0x721958b108a66,
                                           0x40907ed214d5c};
static const uint64_t SQRT_MINUS_1[5] = {0x61b274a0ea0b0, 0xd5a5fc8f189d, 0x7ef5e9cbd0c60, 0x78595a6804c9e,
                                         0x2b8324804fc1d};
static const uint64_t ONE[5] = {1};
static const uint64_t TWO[5] = {2};

/* One and the neutral element look the same in every radix. */
static const uint64_t NEUTRAL_AFFINE[P2L_AFFINE_WORDS] __attribute__((aligned(64))) = {1, 0, 0, 0, 0, 1};

/* Records --------------------------------------------------------------------------------------------------------- */

P2L_INLINE void affine_load(affine *q, const uint64_t *const *rows)
{
    fe loaded[3];
    fe_load(loaded, rows, 3);
    q->plus = loaded[0];
    q->minus = loaded[1];
    q->t2d = loaded[2];
}

static inline void affine_store(uint64_t *const *rows, const affine *q)
{
    fe stored[3] = {q->plus, q->minus, q->t2d};
    fe_store(rows, stored, 3);
}

static inline void point_load(point *p, const uint64_t *const *rows)
{
    fe loaded[4];
    fe_load(loaded, rows, 4);
    p->plus = loaded[0];
    p->minus = loaded[1];
    p->z = loaded[2];
    p->t = loaded[3];
}

static inline void point_store(uint64_t *const *rows, const point *p)
{
    fe stored[4] = {p->plus, p->minus, p->z, p->t};
    fe_store(rows, stored, 4);
}

static inline void prepared_load(prepared *q, const uint64_t *const *rows)
{
    fe loaded[4];
    fe_load(loaded, rows, 4);
    q->plus = loaded[0];
    q->minus = loaded[1];
    q->z = loaded[2];
    q->t2d = loaded[3];
}

static inline void prepared_store(uint64_t *const *rows, const prepared *q)
{
    fe stored[4] = {q->plus, q->minus, q->z, q->t2d};
    fe_store(rows, stored, 4);
}

/* Points ---------------------------------------------------------------------------------------------------------- */

/* 7 multiplications. */
P2L_INLINE void point_add_affine(point *p, const affine *q)
{
    fe e, f, g, h;
    fe_multiply_both(&h, &e, &p->plus, &q->plus, &p->minus, &q->minus);
    fe_around_twice(&g, &f, &p->z, &p->t, &q->t2d);
    fe_multiply_both(&p->plus, &p->minus, &g, &h, &e, &f);
    fe_multiply(&p->z, &f, &g);
    fe_multiply(&p->t, &e, &h);
}

/* 8 multiplications. The formulas want 2 Z Z' beside 2d T T': the factor two of the first is added here. */
static inline void point_add_prepared(point *p, const prepared *q)
{
    fe e, f, g, h, z;
    fe_multiply_both(&h, &e, &p->plus, &q->plus, &p->minus, &q->minus);
    fe_multiply(&z, &p->z, &q->z);
    fe_around_twice(&g, &f, &z, &p->t, &q->t2d);
    fe_multiply_both(&p->plus, &p->minus, &g, &h, &e, &f);
    fe_multiply(&p->z, &f, &g);
    fe_multiply(&p->t, &e, &h);
}

/* With P = (Y + X)^2, M = (Y - X)^2, everything times two: E = P - M, H = P + M, G = 2 (Y + X)(Y - X), F = 4 Z^2 - G. */
static inline void point_double(point *p)
{
    fe e, f, g, h, half, zz;
    fe_square_both(&h, &e, &p->plus, &p->minus);
    fe_multiply(&half, &p->plus, &p->minus);
    fe_square(&zz, &p->z);
    fe_add(&g, &half, &half);
    fe_add(&zz, &zz, &zz);
    fe_subtract(&f, &zz, &half);
    fe_add(&f, &f, &f);
    fe_multiply_both(&p->plus, &p->minus, &g, &h, &e, &f);
    fe_multiply(&p->z, &f, &g);
    fe_multiply(&p->t, &e, &h);
}

/* (2(y + x), 2(y - x), 2, 2xy): the same point with Z = 2, so that T comes from 2dxy without a halving. */
static inline void point_from_affine(point *p, const affine *q)
{
    fe inverse;
    fe_constant(&inverse, CURVE_1_OVER_D);
    fe_add(&p->plus, &q->plus, &q->plus);
    fe_add(&p->minus, &q->minus, &q->minus);
    fe_constant(&p->z, TWO);
    fe_multiply(&p->t, &q->t2d, &inverse);
}

static inline void point_neutral(point *p)
{
    static const uint64_t ZERO[5] = {0};
    fe_constant(&p->plus, ONE);
    p->minus = p->z = p->plus;
    fe_constant(&p->t, ZERO);
}

static inline void point_prepare(prepared *q, const point *p)
{
    fe twice_d;
    fe_constant(&twice_d, CURVE_2D);
    q->plus = p->plus;
    q->minus = p->minus;
    q->z = p->z;
    fe_multiply(&q->t2d, &p->t, &twice_d);
}

static inline void affine_negate_where(affine *q, unsigned mask)
{
    fe_swap_where(&q->plus, &q->minus, mask);
    fe_negate_where(&q->t2d, mask);
}

/* x = 0 and y = 1: both Y + X = Y - X and Y = Z, in which case Y - X = Z. Z is never 0. */
static inline unsigned point_neutral_lanes(const point *p)
{
    fe twice_x, rest;
    fe_subtract(&twice_x, &p->plus, &p->minus);
    fe_subtract(&rest, &p->minus, &p->z);
    return fe_zero_lanes(&twice_x) & fe_zero_lanes(&rest);
}

/* Decompression --------------------------------------------------------------------------------------------------- */

#define EACH for (int k = 0; k < PAIR; k++)

P2L_INLINE void square_times(fe *x, int times)
{
    for (int i = 0; i < times; i++)
        fe_square_each(x);
}

/* x^((p - 5) / 8) = x^(2^252 - 3): 251 squarings and 11 multiplications in a chain that cannot be shortened; running
 * PAIR of them side by side hides the latency of each. */
static void power_of_root(fe *power, const fe *x)
{
    fe t0[PAIR], t1[PAIR], t2[PAIR];
    EACH fe_square(&t0[k], &x[k]); /* 2 */
    EACH t1[k] = t0[k];
    square_times(t1, 2); /* 8 */
    EACH fe_multiply(&t1[k], &x[k], &t1[k]);  /* 9 */
    EACH fe_multiply(&t0[k], &t0[k], &t1[k]); /* 11 */
    square_times(t0, 1);                      /* 22 */
    EACH fe_multiply(&t0[k], &t1[k], &t0[k]); /* 2^5 - 1 */
    EACH t1[k] = t0[k];
    square_times(t1, 5);
    EACH fe_multiply(&t0[k], &t1[k], &t0[k]); /* 2^10 - 1 */
    EACH t1[k] = t0[k];
    square_times(t1, 10);
    EACH fe_multiply(&t1[k], &t1[k], &t0[k]); /* 2^20 - 1 */
    EACH t2[k] = t1[k];
    square_times(t2, 20);
    EACH fe_multiply(&t1[k], &t2[k], &t1[k]); /* 2^40 - 1 */
    square_times(t1, 10);
    EACH fe_multiply(&t0[k], &t1[k], &t0[k]); /* 2^50 - 1 */
    EACH t1[k] = t0[k];
    square_times(t1, 50);
    EACH fe_multiply(&t1[k], &t1[k], &t0[k]); /* 2^100 - 1 */
    EACH t2[k] = t1[k];
    square_times(t2, 100);
    EACH fe_multiply(&t1[k], &t2[k], &t1[k]); /* 2^200 - 1 */
    square_times(t1, 50);
    EACH fe_multiply(&t0[k], &t1[k], &t0[k]); /* 2^250 - 1 */
    square_times(t0, 2);                      /* 2^252 - 4 */
    EACH fe_multiply(&power[k], &t0[k], &x[k]);
}

/* ZIP 215: y is taken modulo p, and x = 0 may carry the sign bit. With u = y^2 - 1 and v = d y^2 + 1 the candidate is
 * x = u v^3 (u v^7)^((p - 5) / 8), right up to a factor sqrt(-1) if u/v is a square (RFC 8032, section 5.1.3). */
static void decompress_pair(const uint8_t *const *encodings, affine *points, unsigned *valid)
{
    fe y[PAIR], u[PAIR], v[PAIR], uv3[PAIR], x[PAIR], constant, one;
    unsigned signs[PAIR];
    fe_constant(&one, ONE);
    fe_constant(&constant, CURVE_D);
    EACH {
        fe y2, v3;
        signs[k] = 0;
        for (int i = 0; i < LANES; i++)
            signs[k] |= (unsigned)(encodings[LANES * k + i][31] >> 7) << i;
        fe_from_bytes(&y[k], encodings + LANES * k);
        fe_square(&y2, &y[k]);
        fe_subtract(&u[k], &y2, &one);
        fe_multiply(&v[k], &y2, &constant);
        fe_add(&v[k], &v[k], &one);
        fe_square(&v3, &v[k]);
        fe_multiply(&v3, &v3, &v[k]);
        fe_multiply(&uv3[k], &u[k], &v3);
        fe_multiply(&x[k], &uv3[k], &v3);
        fe_multiply(&x[k], &x[k], &v[k]); /* u v^7 */
    }
    power_of_root(x, x);
    fe_constant(&constant, SQRT_MINUS_1);
    EACH {
        fe check, difference, sum, turned;
        fe_multiply(&x[k], &x[k], &uv3[k]);
        fe_square(&check, &x[k]);
        fe_multiply(&check, &check, &v[k]);
        fe_subtract(&difference, &check, &u[k]);
        fe_add(&sum, &check, &u[k]);
        unsigned direct = fe_zero_lanes(&difference);
        valid[k] = direct | fe_zero_lanes(&sum);
        fe_multiply(&turned, &x[k], &constant);
        fe_select(&x[k], &turned, &x[k], direct);
        fe_negate_where(&x[k], fe_odd_lanes(&x[k]) ^ signs[k]);
    }
    fe_constant(&constant, CURVE_2D);
    EACH {
        fe_add(&points[k].plus, &y[k], &x[k]);
        fe_subtract(&points[k].minus, &y[k], &x[k]);
        fe_multiply(&points[k].t2d, &x[k], &y[k]);
        fe_multiply(&points[k].t2d, &points[k].t2d, &constant);
    }
}

static void LEVEL(decompress)(const uint8_t *const *encodings, size_t count, uint64_t (*points)[P2L_AFFINE_WORDS],
                              uint8_t *valid)
{
    for (size_t first = 0; first < count; first += PAIR * LANES) {
        const uint8_t *from[PAIR * LANES];
        uint64_t spare[P2L_AFFINE_WORDS] __attribute__((aligned(64))), *rows[PAIR * LANES];
        affine found[PAIR];
        unsigned good[PAIR];
        for (size_t i = 0; i < PAIR * LANES; i++) {
            from[i] = encodings[first + i < count ? first + i : first];
            rows[i] = first + i < count ? points[first + i] : spare;
        }
        decompress_pair(from, found, good);
        EACH {
            affine_store(rows + LANES * k, &found[k]);
            for (size_t i = 0; i < LANES; i++)
                if (first + LANES * k + i < count)
                    valid[first + LANES * k + i] = good[k] >> i & 1;
        }
    }
}

/* Sums of multiples ----------------------------------------------------------------------------------------------- */

static inline void prefetch_record(const uint64_t *record)
{
#ifdef __GNUC__
    __builtin_prefetch(record);
    __builtin_prefetch(record + 8);
#else
    (void)record;
#endif
}

/* A lane for each task: the running sums stay in registers, and only points are looked up. Lanes whose task is over
 * add the neutral element. */
static void LEVEL(fill)(const uint64_t (*points)[P2L_AFFINE_WORDS], const uint16_t *entries,
                        const struct p2l_task *tasks, size_t count, uint64_t (*buckets)[P2L_POINT_WORDS])
{
    for (size_t first = 0; first < count; first += LANES) {
        const uint16_t *next[LANES];
        uint32_t left[LANES], longest = 0;
        uint64_t spare[P2L_POINT_WORDS] __attribute__((aligned(64))), *rows[LANES];
        point sum;
        for (size_t i = 0; i < LANES; i++) {
            const struct p2l_task *task = &tasks[first + i < count ? first + i : first];
            next[i] = entries + task->first;
            left[i] = first + i < count ? task->count : 0;
            rows[i] = first + i < count ? buckets[task->bucket] : spare;
            if (left[i] > longest)
                longest = left[i];
        }
        point_neutral(&sum);
        for (uint32_t step = 0; step < longest; step++) {
            const uint64_t *from[LANES];
            unsigned negative = 0;
            affine addend;
            for (size_t i = 0; i < LANES; i++) {
                from[i] = NEUTRAL_AFFINE;
                if (step < left[i]) {
                    unsigned entry = next[i][step];
                    from[i] = points[entry >> 1];
                    negative |= (entry & 1) << i;
                }
                if (step + 2 < left[i])
                    prefetch_record(points[next[i][step + 2] >> 1]);
            }
            affine_load(&addend, from);
            affine_negate_where(&addend, negative);
            if (step == 0)
                point_from_affine(&sum, &addend);
            else
                point_add_affine(&sum, &addend);
        }
        point_store(rows, &sum);
    }
}

/* The sum of j x bucket[j] as the sum of all the running sums from the top. */
static void LEVEL(reduce)(const uint64_t (*buckets)[P2L_POINT_WORDS], size_t count, uint64_t (*sums)[P2L_POINT_WORDS])
{
    point running, total;
    prepared addend;
    uint64_t *rows[LANES];
    point_neutral(&running);
    point_neutral(&total);
    for (size_t j = count; j-- > 0;) {
        const uint64_t *from[LANES];
        point bucket;
        for (size_t i = 0; i < LANES; i++)
            from[i] = buckets[i * count + j];
        point_load(&bucket, from);
        point_prepare(&addend, &bucket);
        point_add_prepared(&running, &addend);
        point_prepare(&addend, &running);
        point_add_prepared(&total, &addend);
    }
    for (size_t i = 0; i < LANES; i++)
        rows[i] = sums[i];
    point_store(rows, &total);
    for (size_t i = 0; i < LANES; i++)
        fe_words_to_radix_51(sums[i], 20);
}

/* Single signatures ----------------------------------------------------------------------------------------------- */

/* The signed digits of a scalar below 2^253 in base 16, each in [-8, 8): adding 8 to every digit makes them unsigned. */
static inline void signed_digits(int8_t digits[64], const uint64_t scalar[4])
{
    uint64_t carry = 0;
    for (int i = 0; i < 4; i++) {
        uint64_t word = p2l_multiply_add(0x8888888888888888, 1, scalar[i], &carry);
        for (int j = 0; j < 16; j++)
            digits[16 * i + j] = (int8_t)((int)(word >> 4 * j & 15) - 8);
    }
}

/* [8]([s]B - [k]A - R) in each lane, by four doublings and two additions for every digit of k and s. */
static void LEVEL(verify_each)(const uint64_t *const *keys, const uint64_t *const *nonces, const uint64_t (*k)[4],
                               const uint64_t (*s)[4], size_t count, uint8_t *verdicts)
{
    uint64_t multiples[9][LANES][P2L_POINT_WORDS] __attribute__((aligned(64)));
    uint64_t base[9][P2L_AFFINE_WORDS] __attribute__((aligned(64)));
    int8_t k_digits[LANES][64], s_digits[LANES][64];
    const uint64_t *from[LANES];
    uint64_t *rows[LANES];
    affine addend;
    prepared multiple;
    point sum;

    memcpy(base[0], NEUTRAL_AFFINE, sizeof base[0]);
    for (int j = 0; j < 8; j++) {
        memcpy(base[j + 1], p2l_ed25519_base[j], sizeof base[j + 1]);
        fe_words_from_radix_51(base[j + 1], 15);
    }
    for (size_t i = 0; i < LANES; i++) {
        size_t item = i < count ? i : 0;
        signed_digits(k_digits[i], k[item]);
        signed_digits(s_digits[i], s[item]);
        from[i] = keys[item];
    }
    affine_load(&addend, from);
    affine_negate_where(&addend, ~0u);
    point_neutral(&sum);
    for (int j = 0; j <= 8; j++) {
        if (j == 1)
            point_from_affine(&sum, &addend);
        else if (j > 1)
            point_add_affine(&sum, &addend);
        point_prepare(&multiple, &sum);
        for (size_t i = 0; i < LANES; i++)
            rows[i] = multiples[j][i];
        prepared_store(rows, &multiple);
    }

    point_neutral(&sum);
    for (int digit = 63; digit >= 0; digit--) {
        unsigned negative = 0;
        for (int i = 0; i < 4 && digit < 63; i++)
            point_double(&sum);
        for (size_t i = 0; i < LANES; i++) {
            int value = k_digits[i][digit];
            negative |= (unsigned)(value < 0) << i;
            from[i] = multiples[value < 0 ? -value : value][i];
        }
        prepared_load(&multiple, from);
        fe_swap_where(&multiple.plus, &multiple.minus, negative);
        fe_negate_where(&multiple.t2d, negative);
        point_add_prepared(&sum, &multiple);
        negative = 0;
        for (size_t i = 0; i < LANES; i++) {
            int value = s_digits[i][digit];
            negative |= (unsigned)(value < 0) << i;
            from[i] = base[value < 0 ? -value : value];
        }
        affine_load(&addend, from);
        affine_negate_where(&addend, negative);
        point_add_affine(&sum, &addend);
    }
    for (size_t i = 0; i < LANES; i++)
        from[i] = nonces[i < count ? i : 0];
    affine_load(&addend, from);
    affine_negate_where(&addend, ~0u);
    point_add_affine(&sum, &addend);
    for (int i = 0; i < 3; i++)
        point_double(&sum);
    unsigned neutral = point_neutral_lanes(&sum);
    for (size_t i = 0; i < count; i++)
        verdicts[i] = neutral >> i & 1;
}

/* The base point's record in the level's radix. */
static void LEVEL(base)(uint64_t record[P2L_AFFINE_WORDS])
{
    memcpy(record, p2l_ed25519_base[0], sizeof p2l_ed25519_base[0]);
    fe_words_from_radix_51(record, 15);
}

/* Tests ----------------------------------------------------------------------------------------------------------- */

/* Operands a, b, c, d and results r, s: LANES elements of five words each, one after the other. */
static void LEVEL(probe)(int operation, const uint64_t *operands, uint64_t *results)
{
    fe in[4], out[2];
    for (int n = 0; n < 4; n++) {
        const uint64_t *rows[LANES];
        for (int i = 0; i < LANES; i++)
            rows[i] = operands + 5 * (LANES * n + i);
        fe_load_words(&in[n], rows);
    }
    out[0] = out[1] = in[0];
    switch (operation) {
    case 0:
        fe_multiply(&out[0], &in[0], &in[1]);
        break;
    case 1:
        fe_square(&out[0], &in[0]);
        break;
    case 2:
        fe_add(&out[0], &in[0], &in[1]);
        break;
    case 3:
        fe_subtract(&out[0], &in[0], &in[1]);
        break;
    case 4:
        fe_multiply_both(&out[0], &out[1], &in[0], &in[1], &in[2], &in[3]);
        break;
    case 5:
        fe_square_both(&out[0], &out[1], &in[0], &in[1]);
        break;
    case 6:
        fe_around_twice(&out[0], &out[1], &in[0], &in[1], &in[2]);
        break;
    case 7:
        fe_add(&out[0], &in[0], &in[1]);
        fe_negate_where(&out[0], 0x55);
        break;
    case 8:
        fe_subtract(&in[0], &in[0], &in[1]);
        fe_constant(&out[0], ONE);
        fe_constant(&out[1], TWO);
        fe_select(&out[0], &out[0], &out[1], fe_zero_lanes(&in[0]));
        fe_constant(&in[2], TWO);
        fe_constant(&in[3], ONE);
        fe_select(&out[1], &in[3], &in[2], fe_odd_lanes(&in[0]));
        break;
    }
    for (int n = 0; n < 2; n++) {
        uint64_t *rows[LANES];
        for (int i = 0; i < LANES; i++)
            rows[i] = results + 5 * (LANES * n + i);
        fe_store_words(rows, &out[n]);
    }
}

const struct p2l_ed25519_kernels LEVEL(p2l_ed25519) = {
    LANES,
    LEAST,
    FEW,
    LEVEL(base),
    LEVEL(decompress),
    LEVEL(fill),
    LEVEL(reduce),
    LEVEL(verify_each),
    LEVEL(p2l_sha512_compress),
    LEVEL(probe),
};
