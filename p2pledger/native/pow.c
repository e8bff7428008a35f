/* The search of proof of work: which nonce, behind a prefix, gives a double SHA-256 that is small enough.
 *
 * The whole blocks of the prefix are compressed once; each nonce then costs the one or two blocks at its end and one
 * for the second hash. Nonces are tried side by side in the lanes of the level in use. */

#include "internal.h"

enum { NONCE = 8 };

struct work {
    uint32_t middle[8]; /* the state after the whole blocks of the prefix */
    uint8_t tail[128];  /* what is left of the prefix, room for the nonce, the padding */
    size_t tail_blocks, nonce_at;
};

static void work_prepare(struct work *work, const uint8_t *prefix, size_t size)
{
    size_t full = size / 64, rest = size % 64, total = rest + NONCE;
    memcpy(work->middle, P2L_SHA256_START, sizeof work->middle);
    if (full > 0)
        p2l_sha256_compress(work->middle, prefix, full);
    memset(work->tail, 0, sizeof work->tail);
    if (rest > 0)
        memcpy(work->tail, prefix + 64 * full, rest);
    work->nonce_at = rest;
    work->tail_blocks = total < 56 ? 1 : 2;
    work->tail[total] = 0x80;
    p2l_store64(work->tail + 64 * work->tail_blocks - 8, ((uint64_t)size + NONCE) * 8);
}

/* `width` nonces from `start` on, word k of lane i at states[k * word_stride + i * lane_stride]; the index of the first good
 * one, or width. */
static inline __attribute__((always_inline)) size_t try_lanes(const struct work *work, const struct p2l_lanes *kernel,
                                                              const size_t width, const size_t word_stride,
                                                              const size_t lane_stride, uint64_t start,
                                                              const uint32_t target[8])
{
    uint32_t states[8 * P2L_HASH_LANES_MAX];
    uint8_t tails[P2L_HASH_LANES_MAX][128], seconds[P2L_HASH_LANES_MAX][64];
    const uint8_t *blocks[P2L_HASH_LANES_MAX];

    for (size_t i = 0; i < width; i++) {
        memcpy(tails[i], work->tail, sizeof tails[i]);
        p2l_store64(tails[i] + work->nonce_at, start + i);
        blocks[i] = tails[i];
        for (size_t k = 0; k < 8; k++)
            states[k * word_stride + i * lane_stride] = work->middle[k];
    }
    kernel->compress(states, blocks, work->tail_blocks);
    for (size_t i = 0; i < width; i++) {
        memset(seconds[i] + 32, 0, 32);
        seconds[i][32] = 0x80;
        p2l_store64(seconds[i] + 56, 256);
        blocks[i] = seconds[i];
        for (size_t k = 0; k < 8; k++) {
            p2l_store32(seconds[i] + 4 * k, states[k * word_stride + i * lane_stride]);
            states[k * word_stride + i * lane_stride] = P2L_SHA256_START[k];
        }
    }
    kernel->compress(states, blocks, 1);
    for (size_t i = 0; i < width; i++)
        for (size_t k = 0; k < 8; k++) {
            uint32_t word = states[k * word_stride + i * lane_stride];
            if (word > target[k])
                break;
            if (word < target[k] || k == 7)
                return i;
        }
    return width;
}

/* One at a time, in the shape of lanes of width 1. */
static void compress_one(uint32_t *state, const uint8_t *const *blocks, size_t count)
{
    p2l_sha256_compress(state, blocks[0], count);
}

int p2l_pow_search(const uint8_t *prefix, size_t size, uint64_t start, uint64_t count, const uint8_t target[32],
                   uint64_t *nonce)
{
    static const struct p2l_lanes one = {compress_one, 1};
    const struct p2l_hashing *hashing = p2l_hashing();
    const struct p2l_lanes *kernel = hashing->wide.width > 0 ? &hashing->wide : &hashing->narrow;
    struct work work;
    uint32_t words[8];

    if (kernel->width == 0)
        kernel = &one;
    for (int k = 0; k < 8; k++)
        words[k] = p2l_load32(target + 4 * k);
    work_prepare(&work, prefix, size);
    while (count > 0) {
        size_t width = kernel->width, good;
        if (width == 16)
            good = try_lanes(&work, kernel, 16, 16, 1, start, words);
        else if (width == 2)
            good = try_lanes(&work, kernel, 2, 1, 8, start, words);
        else
            good = try_lanes(&work, kernel, 1, 1, 8, start, words);
        if (good < width && good < count) {
            *nonce = start + good;
            return 1;
        }
        if (count <= width)
            return 0;
        start += width;
        count -= width;
    }
    return 0;
}
