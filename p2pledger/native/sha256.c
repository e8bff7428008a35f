/* SHA-256 (FIPS 180-4): the portable compression, and what all levels share: hashing one message as it comes, and many
 * messages side by side.
 *
 * Many messages. A wide kernel hashes as many messages as it has lanes, block by block; each lane follows a message
 * of its own. Steps are as long as the shortest run of blocks among the lanes, and a lane whose message is finished
 * takes the next one, so messages of any mixture of sizes keep the lanes full until the last few, which are finished
 * one by one. Nothing is copied but the first block, where a tag stands before the data, and the padded end. */

#include "internal.h"

const uint32_t P2L_SHA256_ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

const uint32_t P2L_SHA256_START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static inline uint32_t rotate(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

void p2l_sha256_compress_portable(uint32_t state[8], const uint8_t *blocks, size_t count)
{
    for (; count > 0; count--, blocks += 64) {
        uint32_t w[64];
        for (int i = 0; i < 16; i++)
            w[i] = p2l_load32(blocks + 4 * i);
        for (int i = 16; i < 64; i++) {
            uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
            uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 64; i++) {
            uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + P2L_SHA256_ROUND[i] + w[i];
            uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g;
            g = f;
            f = e;
            e = d + t1;
            d = c;
            c = b;
            b = a;
            a = t1 + t2;
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
    }
}

void p2l_sha256_init(struct p2l_sha256 *hash)
{
    memcpy(hash->state, P2L_SHA256_START, sizeof P2L_SHA256_START);
    hash->size = 0;
}

void p2l_sha256_update(struct p2l_sha256 *hash, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t filled = hash->size % 64;
    if (size == 0)
        return;
    hash->size += size;
    if (filled > 0) {
        size_t take = 64 - filled < size ? 64 - filled : size;
        memcpy(hash->buffer + filled, bytes, take);
        if (filled + take < 64)
            return;
        p2l_sha256_compress(hash->state, hash->buffer, 1);
        bytes += take;
        size -= take;
    }
    if (size >= 64) {
        p2l_sha256_compress(hash->state, bytes, size / 64);
        bytes += size / 64 * 64;
        size %= 64;
    }
    if (size > 0)
        memcpy(hash->buffer, bytes, size);
}

void p2l_sha256_final(struct p2l_sha256 *hash, uint8_t out[32])
{
    uint8_t tail[128] = {0};
    size_t filled = hash->size % 64, blocks = filled < 56 ? 1 : 2;
    if (filled > 0)
        memcpy(tail, hash->buffer, filled);
    tail[filled] = 0x80;
    p2l_store64(tail + 64 * blocks - 8, hash->size * 8);
    p2l_sha256_compress(hash->state, tail, blocks);
    for (int i = 0; i < 8; i++)
        p2l_store32(out + 4 * i, hash->state[i]);
}

void p2l_sha256_tagged(const char tag[8], const uint8_t *data, size_t size, uint8_t out[32])
{
    struct p2l_sha256 hash;
    p2l_sha256_init(&hash);
    p2l_sha256_update(&hash, tag, 8);
    p2l_sha256_update(&hash, data, size);
    p2l_sha256_final(&hash, out);
}

/* One lane's message: in one to three runs of blocks, of which `at` and `blocks` are what is left of the present one. */
struct lane {
    const uint8_t *at;
    size_t blocks;
    const uint8_t *middle;
    size_t middle_blocks, tail_blocks;
    uint8_t *hash; /* NULL: the lane rests */
    uint8_t edge[3 * 64]; /* the first block with the tag, then the one or two padded ones */
};

static void lane_start(struct lane *lane, const uint8_t *tag, size_t tag_size, const struct p2l_message *message)
{
    size_t size = tag_size + message->size, full = size / 64, rest = size % 64, taken = 0;
    uint8_t *tail = lane->edge + 64;

    lane->hash = message->hash;
    lane->tail_blocks = rest < 56 ? 1 : 2;
    memset(tail, 0, 64); /* of fixed size: faster than what the compiler makes of a product */
    if (lane->tail_blocks == 2)
        memset(tail + 64, 0, 64);
    if (full == 0) {
        memcpy(tail, tag, tag_size);
        if (message->size > 0)
            memcpy(tail + tag_size, message->data, message->size);
    } else {
        if (tag_size > 0) {
            taken = 64 - tag_size;
            memcpy(lane->edge, tag, tag_size);
            memcpy(lane->edge + tag_size, message->data, taken);
            full--;
        }
        if (rest > 0)
            memcpy(tail, message->data + message->size - rest, rest);
    }
    tail[rest] = 0x80;
    p2l_store64(tail + 64 * lane->tail_blocks - 8, (uint64_t)size * 8);
    lane->middle = NULL;
    lane->middle_blocks = full;
    if (taken > 0 && full == 0) {
        lane->at = lane->edge; /* the tail follows the head in memory */
        lane->blocks = 1 + lane->tail_blocks;
        lane->tail_blocks = 0;
    } else if (taken > 0) {
        lane->at = lane->edge;
        lane->blocks = 1;
        lane->middle = message->data + taken;
    } else if (full > 0) {
        lane->at = message->data;
        lane->blocks = full;
        lane->middle_blocks = 0;
    } else {
        lane->at = tail;
        lane->blocks = lane->tail_blocks;
        lane->tail_blocks = 0;
    }
}

/* Goes on to the message's next run of blocks; 0 if there is none. */
static int lane_continue(struct lane *lane)
{
    if (lane->middle_blocks > 0) {
        lane->at = lane->middle;
        lane->blocks = lane->middle_blocks;
        lane->middle_blocks = 0;
    } else if (lane->tail_blocks > 0) {
        lane->at = lane->edge + 64;
        lane->blocks = lane->tail_blocks;
        lane->tail_blocks = 0;
    } else {
        return 0;
    }
    return 1;
}

static inline void hash_store(uint8_t hash[32], const uint32_t *state, size_t stride)
{
    for (int i = 0; i < 8; i++)
        p2l_store32(hash + 4 * i, state[stride * (size_t)i]);
}

static void hash_one(const uint8_t *tag, size_t tag_size, const struct p2l_message *message)
{
    struct p2l_sha256 hash;
    p2l_sha256_init(&hash);
    p2l_sha256_update(&hash, tag, tag_size);
    p2l_sha256_update(&hash, message->data, message->size);
    p2l_sha256_final(&hash, message->hash);
}

static inline __attribute__((always_inline)) void hash_in(const struct p2l_lanes *kernel, const size_t width,
                                                          const size_t word_stride, const size_t lane_stride,
                                                          const uint8_t *tag, size_t tag_size,
                                                          const struct p2l_message *messages, size_t count)
{
    struct lane lanes[P2L_HASH_LANES_MAX];
    uint32_t states[8 * P2L_HASH_LANES_MAX]; /* word k of lane i at k * word_stride + i * lane_stride */
    const uint8_t *blocks[P2L_HASH_LANES_MAX];
    size_t next = 0, active = 0;

    memset(states, 0, sizeof states);
    for (size_t i = 0; i < width; i++) {
        lanes[i].hash = NULL;
        if (next == count)
            continue;
        lane_start(&lanes[i], tag, tag_size, &messages[next++]);
        for (size_t k = 0; k < 8; k++)
            states[k * word_stride + i * lane_stride] = P2L_SHA256_START[k];
        active++;
    }
    while (active >= kernel->least || (active > 0 && next < count)) {
        size_t step = SIZE_MAX;
        const uint8_t *any = NULL;
        for (size_t i = 0; i < width; i++)
            if (lanes[i].hash != NULL && lanes[i].blocks < step) {
                step = lanes[i].blocks;
                any = lanes[i].at;
            }
        for (size_t i = 0; i < width; i++)
            blocks[i] = lanes[i].hash != NULL ? lanes[i].at : any;
        kernel->compress(states, blocks, step);
        for (size_t i = 0; i < width; i++) {
            struct lane *lane = &lanes[i];
            uint32_t *state = states + i * lane_stride;
            if (lane->hash == NULL)
                continue;
            lane->at += 64 * step;
            lane->blocks -= step;
            if (lane->blocks > 0 || lane_continue(lane))
                continue;
            hash_store(lane->hash, state, word_stride);
            if (next == count) {
                lane->hash = NULL;
                active--;
            } else {
                lane_start(lane, tag, tag_size, &messages[next++]);
                for (size_t k = 0; k < 8; k++)
                    state[k * word_stride] = P2L_SHA256_START[k];
            }
        }
    }
    for (size_t i = 0; i < width; i++) {
        uint32_t state[8];
        if (lanes[i].hash == NULL)
            continue;
        for (size_t k = 0; k < 8; k++)
            state[k] = states[k * word_stride + i * lane_stride];
        do
            p2l_sha256_compress(state, lanes[i].at, lanes[i].blocks);
        while (lane_continue(&lanes[i]));
        hash_store(lanes[i].hash, state, 1);
    }
}

/* Twice the same, compiled for the two shapes there are. */
static void hash_in_lanes(const struct p2l_lanes *kernel, const uint8_t *tag, size_t tag_size,
                          const struct p2l_message *messages, size_t count)
{
    if (kernel->width == 2)
        hash_in(kernel, 2, 1, 8, tag, tag_size, messages, count);
    else
        hash_in(kernel, 16, 16, 1, tag, tag_size, messages, count);
}

void p2l_sha256_messages(const uint8_t *tag, size_t tag_size, const struct p2l_message *messages, size_t count)
{
    const struct p2l_hashing *hashing = p2l_hashing();
    if (hashing->wide.width > 0 && count >= hashing->wide.least)
        hash_in_lanes(&hashing->wide, tag, tag_size, messages, count);
    else if (hashing->narrow.width > 0 && count >= hashing->narrow.least)
        hash_in_lanes(&hashing->narrow, tag, tag_size, messages, count);
    else
        for (size_t i = 0; i < count; i++)
            hash_one(tag, tag_size, &messages[i]);
}

/* Spans to messages, some at a time: enough that the lanes rarely run empty. */
void p2l_sha256_spans(const uint8_t *tag, size_t tag_size, const struct p2l_span *spans, size_t count, uint8_t *hashes)
{
    struct p2l_message messages[256];
    while (count > 0) {
        size_t some = count < 256 ? count : 256;
        for (size_t i = 0; i < some; i++)
            messages[i] = (struct p2l_message){spans[i].data, spans[i].size, hashes + 32 * i};
        p2l_sha256_messages(tag, tag_size, messages, some);
        spans += some;
        hashes += 32 * some;
        count -= some;
    }
}

void p2l_sha256_many(const struct p2l_span *messages, size_t count, uint8_t *hashes)
{
    p2l_sha256_spans((const uint8_t *)"", 0, messages, count, hashes);
}

/* Both blocks of a node, padded. */
static void node_blocks(const struct p2l_pair *pair, size_t tag_size, uint8_t blocks[128])
{
    memset(blocks + 64, 0, 64);
    for (size_t i = 0; i < tag_size; i++)
        blocks[i] = (uint8_t)(pair->tag >> 8 * (tag_size - 1 - i));
    memcpy(blocks + tag_size, pair->left, 32);
    memcpy(blocks + tag_size + 32, pair->right, 32);
    blocks[tag_size + 64] = 0x80;
    p2l_store32(blocks + 124, (uint32_t)(8 * (tag_size + 64)));
}

void p2l_sha256_nodes(const struct p2l_pair *pairs, size_t count, int tag_size)
{
    const struct p2l_hashing *hashing = p2l_hashing();
    uint32_t state[16];
    uint8_t blocks[2][128];
    if (hashing->nodes != NULL)
        while (count >= hashing->nodes_least) {
            size_t some = count < hashing->nodes_width ? count : hashing->nodes_width;
            hashing->nodes(pairs, some, tag_size);
            pairs += some;
            count -= some;
        }
    if (hashing->narrow.width == 2)
        for (; count >= 2; count -= 2, pairs += 2) {
            const uint8_t *const at[2] = {blocks[0], blocks[1]};
            for (size_t i = 0; i < 2; i++) {
                node_blocks(&pairs[i], (size_t)tag_size, blocks[i]);
                memcpy(state + 8 * i, P2L_SHA256_START, sizeof P2L_SHA256_START);
            }
            hashing->narrow.compress(state, at, 2);
            hash_store(pairs[0].hash, state, 1);
            hash_store(pairs[1].hash, state + 8, 1);
        }
    for (; count > 0; count--, pairs++) {
        node_blocks(pairs, (size_t)tag_size, blocks[0]);
        memcpy(state, P2L_SHA256_START, sizeof P2L_SHA256_START);
        hashing->compress(state, blocks[0], 2);
        hash_store(pairs->hash, state, 1);
    }
}
