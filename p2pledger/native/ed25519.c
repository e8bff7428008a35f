/* Verification of many Ed25519 signatures under the rules of ZIP 215.
 *
 * A signature (R, S) of message M under key A is valid if S < L, if R and A are encodings of points (y taken modulo p,
 * any sign bit), and if
 *
 *     [8] ([S]B - [k]A - R) = 0      with k = SHA-512(R || A || M) mod L over the bytes as they came.
 *
 * Multiplied by 8, the left side lies in a group of prime order L. So a batch is checked by one equation,
 *
 *     [8] ( [sum z S]B - sum [z k]A - sum [z]R ) = 0,
 *
 * with z random, of 128 bits, not zero, and unknown to whoever made the batch: if a signature is invalid, it holds by
 * chance with probability below 2^-127. Because of the cofactor 8 this is the same rule as for one signature alone,
 * with keys and nonces of any order. (The signs are turned: R and A come in with plus, B with minus.) What the
 * equation does not confirm is halved and tried again, up to a budget of work, and in the end signatures are checked
 * one by one; a signature is refused only by a check of its own.
 *
 * The sum of multiples is Pippenger's: the scalars are cut into windows of signed digits; within a window, points of
 * the same digit are added into a bucket, and sum j x bucket[j] by running sums. The terms of a window are sorted by
 * digit first, so that a lane can add up one bucket after the other without ever meeting another lane's. The number of
 * windows is chosen by a count of the additions. Equal keys are one term.
 *
 * Nothing here is secret but the seed of z, and nothing runs in constant time. */

#include "ed25519.h"

#include <stdlib.h>

enum {
    SLICE = 16383,      /* signatures in one equation: the numbers of 2 n + 1 points, times two, have 16 bits */
    WINDOWS_MAX = 84,   /* of at least three bits */
    WINDOWS_MIN = 20,   /* of at most 13 bits */
    SCALAR_BITS = 253,
    Z_BITS = 128,
    LENGTH_CLASSES = 1024
};

/* Where the windows lie: window w has the bits from starts[w] up to starts[w + 1]. */
struct plan {
    size_t windows, short_windows; /* the second for scalars of 128 bits */
    uint32_t starts[WINDOWS_MAX + 1];
    unsigned digit_bits_max;
    uint64_t bias[4], short_bias[4]; /* half of each window's range, which makes the digits unsigned */
};

struct batch {
    const struct p2l_ed25519_kernels *kernels;
    size_t count, keys;
    struct p2l_sha512_message *messages;
    const uint8_t **encodings;                /* keys, then nonces */
    uint32_t *order, *table, *key_of;         /* key_of[i]: the number of signature i's key */
    uint8_t *hashes, *valid, *flags;
    uint64_t (*points)[P2L_AFFINE_WORDS];     /* keys, nonces, base */
    uint64_t (*k)[4], (*s)[4], (*z)[2];
    uint64_t (*key_sums)[8];
    uint32_t *pending, *stamps, *stamped, stamp;
    int64_t budget;

    /* One sum of multiples. */
    unsigned digit_bits_max;
    uint64_t (*scalars)[4];
    uint16_t *term_points, *entries;
    uint32_t *counts;
    int16_t *digits;
    struct p2l_task *tasks, *sorted;
    uint64_t (*buckets)[P2L_POINT_WORDS], (*sums)[P2L_POINT_WORDS];
};

/* Memory ---------------------------------------------------------------------------------------------------------- */

struct arena {
    uint8_t *base; /* NULL while measuring */
    size_t used;
};

/* The next `count` items, on a cache line of their own. */
static void *take(struct arena *arena, size_t count, size_t size)
{
    void *place = arena->base != NULL ? arena->base + arena->used : NULL;
    arena->used += (count * size + 63) / 64 * 64;
    return place;
}

static size_t table_size(size_t count)
{
    size_t size = 4;
    while (size < 2 * count)
        size *= 2;
    return size;
}

static size_t lay_out_batch(struct batch *b, uint8_t *base)
{
    struct arena arena = {base, 0};
    size_t n = b->count, hashed = n > 4 ? n : 4;
    b->messages = take(&arena, hashed, sizeof *b->messages);
    b->encodings = take(&arena, 2 * n, sizeof *b->encodings);
    b->order = take(&arena, hashed, sizeof *b->order);
    b->table = take(&arena, table_size(n), sizeof *b->table);
    b->key_of = take(&arena, n, sizeof *b->key_of);
    b->hashes = take(&arena, hashed, 64);
    b->valid = take(&arena, 2 * n, 1);
    b->points = take(&arena, 2 * n + 1, sizeof *b->points);
    b->k = take(&arena, n, sizeof *b->k);
    b->s = take(&arena, n, sizeof *b->s);
    b->z = take(&arena, n + 4, sizeof *b->z);
    b->key_sums = take(&arena, n, sizeof *b->key_sums);
    b->pending = take(&arena, n, sizeof *b->pending);
    b->stamps = take(&arena, n, sizeof *b->stamps);
    b->stamped = take(&arena, n, sizeof *b->stamped);
    return arena.used;
}

static size_t lay_out_sum(struct batch *b, size_t terms, uint8_t *base)
{
    struct arena arena = {base, 0};
    size_t lanes = b->kernels->lanes, buckets = lanes << (b->digit_bits_max - 1);
    b->scalars = take(&arena, terms, sizeof *b->scalars);
    b->term_points = take(&arena, terms, sizeof *b->term_points);
    b->entries = take(&arena, lanes * terms, sizeof *b->entries);
    b->counts = take(&arena, buckets + 1, sizeof *b->counts);
    b->digits = take(&arena, terms, sizeof *b->digits);
    b->tasks = take(&arena, buckets, sizeof *b->tasks);
    b->sorted = take(&arena, buckets, sizeof *b->sorted);
    b->buckets = take(&arena, buckets, sizeof *b->buckets);
    b->sums = take(&arena, WINDOWS_MAX + P2L_LANES_MAX, sizeof *b->sums);
    return arena.used;
}

static uint8_t *on_cache_line(uint8_t *memory)
{
    return memory + (64 - (uintptr_t)memory % 64) % 64;
}

/* The sum of multiples ---------------------------------------------------------------------------------------------- */

static void add_bias(uint64_t scalar[4], const uint64_t bias[4])
{
    uint64_t carry = 0;
    for (int i = 0; i < 4; i++)
        scalar[i] = p2l_multiply_add(bias[i], 1, scalar[i], &carry);
}

/* How many multiplications `windows` windows cost, about. */
static double cost(size_t windows, size_t long_terms, size_t short_terms, size_t lanes)
{
    size_t digit_bits = (SCALAR_BITS + windows - 1) / windows, short_windows = 0;
    while (short_windows < windows && SCALAR_BITS * short_windows / windows <= Z_BITS)
        short_windows++;
    double additions = (double)long_terms * windows + (double)short_terms * short_windows;
    /* In the topmost short window all terms crowd in few buckets, and too few lanes work. */
    size_t top_bits = Z_BITS - SCALAR_BITS * (short_windows - 1) / windows;
    double busy = top_bits < 5 ? (double)((size_t)1 << top_bits) : 32;
    if (busy < lanes)
        additions += (double)short_terms * (lanes / busy - 1);
    double buckets = (double)((windows + lanes - 1) / lanes * lanes) * ((size_t)1 << (digit_bits - 1));
    return 8 * additions + 22 * buckets;
}

static void make_plan(struct plan *plan, size_t long_terms, size_t short_terms, size_t lanes, unsigned digit_bits_max)
{
    size_t best = 0;
    for (size_t windows = WINDOWS_MIN; windows <= WINDOWS_MAX; windows++) {
        if ((SCALAR_BITS + windows - 1) / windows > digit_bits_max)
            continue;
        if (best == 0 || cost(windows, long_terms, short_terms, lanes) < cost(best, long_terms, short_terms, lanes))
            best = windows;
    }
    memset(plan, 0, sizeof *plan);
    plan->windows = best;
    plan->digit_bits_max = (unsigned)((SCALAR_BITS + best - 1) / best);
    for (size_t w = 0; w <= best; w++)
        plan->starts[w] = (uint32_t)(SCALAR_BITS * w / best);
    while (plan->starts[plan->short_windows] <= Z_BITS)
        plan->short_windows++;
    for (size_t w = 0; w < best; w++) {
        uint32_t bit = plan->starts[w + 1] - 1;
        plan->bias[bit / 64] |= (uint64_t)1 << bit % 64;
        if (w < plan->short_windows)
            plan->short_bias[bit / 64] |= (uint64_t)1 << bit % 64;
    }
}

/* The signed digit of a biased scalar in bits start .. start + size. A full window has digits in [-2^(size - 1),
 * 2^(size - 1)). The topmost has no upper end but the scalar's: scalars are below 2^252 + 2^125 or 2^128, and with the
 * bias, below 2^(size - 1) (1 + 2^-9) in units of the window, its digit is at most 2^(size - 1) too. */
static inline int digit_at(const uint64_t scalar[4], uint32_t start, uint32_t size, int topmost)
{
    uint32_t word = start / 64, shift = start % 64;
    uint64_t bits = scalar[word] >> shift;
    if (shift + size >= 64 && word < 3)
        bits |= scalar[word + 1] << 1 << (63 - shift);
    if (!topmost)
        bits &= ((uint64_t)1 << size) - 1;
    return (int)bits - (1 << (size - 1));
}

/* The tasks of the buckets, longest first. */
static void sort_tasks(const struct p2l_task *tasks, size_t count, struct p2l_task *sorted)
{
    uint32_t places[LENGTH_CLASSES + 1] = {0};
    for (size_t i = 0; i < count; i++) {
        uint32_t length = tasks[i].count < LENGTH_CLASSES ? tasks[i].count : LENGTH_CLASSES - 1;
        places[LENGTH_CLASSES - length]++;
    }
    for (size_t i = 1; i <= LENGTH_CLASSES; i++)
        places[i] += places[i - 1];
    for (size_t i = 0; i < count; i++) {
        uint32_t length = tasks[i].count < LENGTH_CLASSES ? tasks[i].count : LENGTH_CLASSES - 1;
        sorted[places[LENGTH_CLASSES - 1 - length]++] = tasks[i];
    }
}

/* total = the sum of scalars[i] x points[term_points[i]], up to a point of small order. The first `long_terms` scalars are below
 * L, the others below 2^128. */
static void sum_multiples(struct batch *b, size_t long_terms, size_t short_terms, uint64_t total[P2L_POINT_WORDS])
{
    const struct p2l_ed25519_kernels *kernels = b->kernels;
    size_t lanes = kernels->lanes, terms = long_terms + short_terms;
    struct plan plan;
    make_plan(&plan, long_terms, short_terms, lanes, b->digit_bits_max);
    size_t per_window = (size_t)1 << (plan.digit_bits_max - 1), buckets = lanes * per_window;
    for (size_t i = 0; i < terms; i++)
        add_bias(b->scalars[i], i < long_terms ? plan.bias : plan.short_bias);

    for (size_t window = 0; window < plan.windows; window += lanes) {
        uint32_t placed = 0;
        for (size_t lane = 0; lane < lanes; lane++) {
            size_t w = window + lane, present = w >= plan.windows ? 0 : w < plan.short_windows ? terms : long_terms;
            uint32_t *counts = b->counts;
            uint32_t start = w < plan.windows ? plan.starts[w] : 0, size = w < plan.windows ? plan.starts[w + 1] - start : 0;
            memset(counts, 0, (per_window + 1) * sizeof *counts);
            for (size_t i = 0; i < present; i++) {
                int topmost = w + 1 == (i < long_terms ? plan.windows : plan.short_windows);
                int digit = digit_at(b->scalars[i], start, size, topmost);
                b->digits[i] = (int16_t)digit;
                counts[digit < 0 ? -digit : digit]++;
            }
            /* counts becomes the place of each bucket's next entry. Those of the digit 0 are placed and left alone:
             * there is no branch on a digit, which no processor could predict. */
            uint32_t zeros = counts[0];
            counts[0] = placed;
            placed += zeros;
            for (size_t j = 0; j < per_window; j++) {
                struct p2l_task *task = &b->tasks[lane * per_window + j];
                *task = (struct p2l_task){placed, counts[j + 1], (uint32_t)(lane * per_window + j)};
                placed += counts[j + 1];
                counts[j + 1] = task->first;
            }
            for (size_t i = 0; i < present; i++) {
                int digit = b->digits[i];
                b->entries[counts[digit < 0 ? -digit : digit]++] = (uint16_t)(b->term_points[i] << 1 | (digit < 0));
            }
        }
        sort_tasks(b->tasks, buckets, b->sorted);
        kernels->fill((const uint64_t(*)[P2L_AFFINE_WORDS])b->points, b->entries, b->sorted, buckets, b->buckets);
        kernels->reduce((const uint64_t(*)[P2L_POINT_WORDS])b->buckets, per_window, b->sums + window);
    }
    p2l_ed25519_combine((const uint64_t(*)[P2L_POINT_WORDS])b->sums, plan.starts, plan.windows, total);
}

/* Verdicts -------------------------------------------------------------------------------------------------------- */

/* What stands in the equation of these signatures before it is multiplied by 8. */
static void evaluate(struct batch *b, const uint32_t *items, size_t count, uint64_t value[P2L_POINT_WORDS])
{
    uint64_t base_sum[8] = {0}, *scalar;
    size_t terms = 0;
    b->stamp++;
    for (size_t i = 0; i < count; i++) {
        uint32_t item = items[i], key = b->key_of[item];
        if (b->stamps[key] != b->stamp) {
            b->stamps[key] = b->stamp;
            b->stamped[terms++] = key;
            memset(b->key_sums[key], 0, sizeof b->key_sums[key]);
        }
        p2l_scalar_accumulate(b->key_sums[key], b->z[item], b->k[item]);
        p2l_scalar_accumulate(base_sum, b->z[item], b->s[item]);
    }
    for (size_t i = 0; i < terms; i++) {
        b->term_points[i] = (uint16_t)b->stamped[i];
        p2l_scalar_reduce(b->scalars[i], b->key_sums[b->stamped[i]]);
    }
    b->term_points[terms] = (uint16_t)(b->keys + b->count);
    p2l_scalar_reduce(b->scalars[terms], base_sum);
    p2l_scalar_negate(b->scalars[terms++]);
    for (size_t i = 0; i < count; i++) {
        b->term_points[terms + i] = (uint16_t)(b->keys + items[i]);
        scalar = b->scalars[terms + i];
        scalar[0] = b->z[items[i]][0];
        scalar[1] = b->z[items[i]][1];
        scalar[2] = scalar[3] = 0;
    }
    sum_multiples(b, terms, count, value);
}

static void verify_one_by_one(struct batch *b, const uint32_t *items, size_t count)
{
    size_t lanes = b->kernels->lanes;
    for (size_t first = 0; first < count; first += lanes) {
        const uint64_t *keys[P2L_LANES_MAX], *nonces[P2L_LANES_MAX];
        uint64_t k[P2L_LANES_MAX][4], s[P2L_LANES_MAX][4];
        uint8_t verdicts[P2L_LANES_MAX];
        size_t used = count - first < lanes ? count - first : lanes;
        for (size_t i = 0; i < used; i++) {
            uint32_t item = items[first + i];
            keys[i] = b->points[b->key_of[item]];
            nonces[i] = b->points[b->keys + item];
            memcpy(k[i], b->k[item], sizeof k[i]);
            memcpy(s[i], b->s[item], sizeof s[i]);
        }
        b->kernels->verify_each(keys, nonces, (const uint64_t(*)[4])k, (const uint64_t(*)[4])s, used, verdicts);
        for (size_t i = 0; i < used; i++)
            b->flags[items[first + i]] = verdicts[i];
    }
}

/* Decides the items, of which the equation has this value. If it does not hold, the first half is evaluated; what is
 * left is the value of the other half, up to a point of small order, at no cost. A fault among n costs n/2 + n/4 + ...
 * terms. The depth is at most 14. */
static void decide(struct batch *b, const uint32_t *items, size_t count, const uint64_t value[P2L_POINT_WORDS])
{
    uint64_t first[P2L_POINT_WORDS] = {0}, second[P2L_POINT_WORDS] = {0};
    size_t half = count / 2;
    if (p2l_ed25519_is_small(value)) {
        for (size_t i = 0; i < count; i++)
            b->flags[items[i]] = 1;
        return;
    }
    if (count <= 4 * b->kernels->few || b->budget < (int64_t)half) {
        verify_one_by_one(b, items, count);
        return;
    }
    b->budget -= (int64_t)half;
    evaluate(b, items, half, first);
    p2l_ed25519_difference(value, first, second);
    decide(b, items, half, first);
    decide(b, items + half, count - half, second);
}

/* Numbers the distinct keys in order of appearance. The table's hash is keyed, so that nobody can choose keys that
 * collide in it. */
static void number_keys(struct batch *b, const uint8_t *public_keys, const uint64_t secret[4])
{
    size_t mask = table_size(b->count) - 1;
    memset(b->table, 0, (mask + 1) * sizeof *b->table);
    b->keys = 0;
    for (size_t i = 0; i < b->count; i++) {
        const uint8_t *key = public_keys + 32 * i;
        uint64_t words[4], low, carry = 0;
        p2l_scalar_load(words, key);
        low = p2l_multiply_add(words[0] ^ secret[0], words[1] ^ secret[1], 0, &carry);
        low ^= carry;
        carry = 0;
        low ^= p2l_multiply_add(words[2] ^ secret[2], words[3] ^ secret[3], low, &carry);
        size_t place = (size_t)(low ^ carry) & mask;
        while (b->table[place] != 0 && memcmp(b->encodings[b->table[place] - 1], key, 32) != 0)
            place = (place + 1) & mask;
        if (b->table[place] == 0) {
            b->encodings[b->keys++] = key;
            b->table[place] = (uint32_t)b->keys;
        }
        b->key_of[i] = b->table[place] - 1;
    }
}

/* z[0 .. count) from SHA-512(seed || counter), four from each. */
static void draw_coefficients(struct batch *b, const uint8_t seed[64])
{
    uint8_t *counters = (uint8_t *)b->points; /* not in use yet; 128 bytes for each signature */
    size_t hashes = (b->count + 3) / 4;
    for (size_t i = 0; i < hashes; i++) {
        p2l_store64(counters + 8 * i, i);
        b->messages[i] = (struct p2l_sha512_message){{seed, seed + 32}, {counters + 8 * i, 8}};
    }
    p2l_sha512_messages(b->messages, hashes, b->order, b->hashes);
    for (size_t i = 0; i < b->count; i++) {
        b->z[i][0] = p2l_load64_little(b->hashes + 16 * i);
        b->z[i][1] = p2l_load64_little(b->hashes + 16 * i + 8);
        if ((b->z[i][0] | b->z[i][1]) == 0)
            b->z[i][0] = 1;
    }
}

static int verify_slice(const uint8_t *public_keys, const uint8_t *signatures, const struct p2l_span *messages,
                        size_t count, uint8_t *flags)
{
    struct batch b = {.kernels = p2l_ed25519_kernels(), .count = count, .flags = flags};
    uint8_t seed[96] = {0}, *memory, *sum_memory;
    uint64_t secret[4], value[P2L_POINT_WORDS] = {0};
    size_t pending = 0;
    if (count < b.kernels->least)
        b.kernels = &p2l_ed25519_portable;
    int random = p2l_random(seed, sizeof seed);
    memory = p2l_allocate(lay_out_batch(&b, NULL) + 64);
    if (memory == NULL)
        return P2L_NO_MEMORY;
    lay_out_batch(&b, on_cache_line(memory));
    memcpy(secret, seed + 64, sizeof secret);

    number_keys(&b, public_keys, secret);
    draw_coefficients(&b, seed);
    for (size_t i = 0; i < count; i++)
        b.messages[i] = (struct p2l_sha512_message){{signatures + 64 * i, public_keys + 32 * i}, messages[i]};
    p2l_sha512_messages(b.messages, count, b.order, b.hashes);
    for (size_t i = 0; i < count; i++) {
        uint64_t number[8];
        for (int j = 0; j < 8; j++)
            number[j] = p2l_load64_little(b.hashes + 64 * i + 8 * j);
        p2l_scalar_reduce(b.k[i], number);
        p2l_scalar_load(b.s[i], signatures + 64 * i + 32);
        b.encodings[b.keys + i] = signatures + 64 * i;
    }
    b.kernels->decompress(b.encodings, b.keys + count, b.points, b.valid);
    for (size_t i = 0; i < count; i++) {
        flags[i] = 0;
        if (b.valid[b.key_of[i]] && b.valid[b.keys + i] && p2l_scalar_is_reduced(signatures + 64 * i + 32))
            b.pending[pending++] = (uint32_t)i;
    }

    if (pending <= b.kernels->few || !random) {
        verify_one_by_one(&b, b.pending, pending);
        free(memory);
        return P2L_OK;
    }
    struct plan plan;
    make_plan(&plan, b.keys + 1, pending, b.kernels->lanes, 13);
    b.digit_bits_max = plan.digit_bits_max;
    sum_memory = p2l_allocate(lay_out_sum(&b, b.keys + 1 + pending, NULL) + 64);
    if (sum_memory == NULL) {
        free(memory);
        return P2L_NO_MEMORY;
    }
    lay_out_sum(&b, b.keys + 1 + pending, on_cache_line(sum_memory));
    b.kernels->base(b.points[b.keys + count]);
    memset(b.stamps, 0, b.keys * sizeof *b.stamps);
    b.budget = 2 * (int64_t)pending;
    evaluate(&b, b.pending, pending, value);
    decide(&b, b.pending, pending, value);
    free(sum_memory);
    free(memory);
    return P2L_OK;
}

int p2l_ed25519_verify(const uint8_t *public_keys, const uint8_t *signatures, const struct p2l_span *messages,
                       size_t count, uint8_t *flags)
{
    for (size_t first = 0; first < count; first += SLICE) {
        size_t part = count - first < SLICE ? count - first : SLICE;
        int status = verify_slice(public_keys + 32 * first, signatures + 64 * first, messages + first, part, flags + first);
        if (status != P2L_OK)
            return status;
    }
    return P2L_OK;
}

int p2l_ed25519_probe(int operation, const uint64_t *operands, uint64_t *results)
{
    const struct p2l_ed25519_kernels *kernels = p2l_ed25519_kernels();
    kernels->probe(operation, operands, results);
    return (int)kernels->lanes;
}
