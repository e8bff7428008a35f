/* SHA-256 (FIPS 180-4): the portable compression, and what all levels share: hashing one message as it comes, and many
 * messages side by side.
 *
 * Many messages. Sixteen of the same number of blocks are hashed abreast, by one kernel from beginning to end; so they
 * are sorted into bins by that number, and whenever a bin is full it is emptied. What is left in the bins at the end,
 * and everything where there is no such kernel, goes through two lanes, each of which follows a message of its own:
 * steps are as long as the shorter of the two runs of blocks, and a lane whose message is finished takes the next one,
 * so messages of any mixture of sizes keep both lanes full. In the two lanes nothing is copied but the first block,
 * where a tag stands before the data, and the padded end; of those abreast nothing at all. */

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

/* The words 16 .. 63 from the first sixteen. */
static inline void schedule_expand(uint32_t w[64])
{
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
}

void p2l_sha256_compress_portable(uint32_t state[8], const uint8_t *blocks, size_t count)
{
    for (; count > 0; count--, blocks += 64) {
        uint32_t w[64];
        for (int i = 0; i < 16; i++)
            w[i] = p2l_load32(blocks + 4 * i);
        schedule_expand(w);
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

static inline void hash_store(uint8_t hash[32], const uint32_t state[8])
{
    for (int i = 0; i < 8; i++)
        p2l_store32(hash + 4 * i, state[i]);
}

static void hash_one(const uint8_t *tag, size_t tag_size, const struct p2l_message *message)
{
    struct p2l_sha256 hash;
    p2l_sha256_init(&hash);
    p2l_sha256_update(&hash, tag, tag_size);
    p2l_sha256_update(&hash, message->data, message->size);
    p2l_sha256_final(&hash, message->hash);
}

/* At least two messages in two lanes; the last is finished alone. */
static void hash_in_two(const struct p2l_hashing *hashing, const uint8_t *tag, size_t tag_size,
                        const struct p2l_message *messages, size_t count)
{
    struct lane lanes[2];
    uint32_t states[16];
    size_t next = 0, active = 0;

    for (; active < 2; active++) {
        lane_start(&lanes[active], tag, tag_size, &messages[next++]);
        memcpy(states + 8 * active, P2L_SHA256_START, sizeof P2L_SHA256_START);
    }
    while (active == 2) {
        const uint8_t *const blocks[2] = {lanes[0].at, lanes[1].at};
        size_t step = lanes[0].blocks < lanes[1].blocks ? lanes[0].blocks : lanes[1].blocks;
        hashing->narrow.compress(states, blocks, step);
        for (size_t i = 0; i < 2; i++) {
            struct lane *lane = &lanes[i];
            lane->at += 64 * step;
            lane->blocks -= step;
            if (lane->blocks > 0 || lane_continue(lane))
                continue;
            hash_store(lane->hash, states + 8 * i);
            if (next == count) {
                lane->hash = NULL;
                active--;
            } else {
                lane_start(lane, tag, tag_size, &messages[next++]);
                memcpy(states + 8 * i, P2L_SHA256_START, sizeof P2L_SHA256_START);
            }
        }
    }
    for (size_t i = 0; i < 2; i++) {
        if (lanes[i].hash == NULL)
            continue;
        do
            hashing->compress(states + 8 * i, lanes[i].at, lanes[i].blocks);
        while (lane_continue(&lanes[i]));
        hash_store(lanes[i].hash, states + 8 * i);
    }
}

static void hash_few(const struct p2l_hashing *hashing, const uint8_t *tag, size_t tag_size,
                     const struct p2l_message *messages, size_t count)
{
    if (hashing->narrow.width == 2 && count >= 2)
        hash_in_two(hashing, tag, tag_size, messages, count);
    else
        for (size_t i = 0; i < count; i++)
            hash_one(tag, tag_size, &messages[i]);
}

/* What the rounds of a last block add that is nothing but the padding of `size` bytes. */
struct padding {
    uint64_t size; /* UINT64_MAX: not made yet */
    uint32_t rounds[64];
};

static void padding_make(struct padding *padding, uint64_t size)
{
    uint32_t w[64] = {size % 64 == 0 ? 0x80000000u : 0};
    w[14] = (uint32_t)(size >> 29);
    w[15] = (uint32_t)(size << 3);
    schedule_expand(w);
    for (int i = 0; i < 64; i++)
        padding->rounds[i] = P2L_SHA256_ROUND[i] + w[i];
    padding->size = size;
}

/* How many messages from the first on are of its size, at most `most`. */
static inline size_t sizes_alike(const struct p2l_message *messages, size_t most)
{
    size_t count = 1;
    while (count < most && messages[count].size == messages[0].size)
        count++;
    return count;
}

/* P2L_ABREAST messages of one number of blocks, in one go. */
static void hash_together(const struct p2l_hashing *hashing, const uint8_t *tag, size_t tag_size,
                          const struct p2l_message *messages, int one_size, struct padding *padding)
{
    const uint64_t size = tag_size + (uint64_t)messages[0].size;
    const int shared = one_size && (size % 64 == 0 || size % 64 >= 56);
    if (shared && padding->size != size)
        padding_make(padding, size);
    hashing->abreast(tag, tag_size, messages, one_size, shared ? padding->rounds : NULL);
}

/* Messages that wait for others of the same number of blocks. */
struct bin {
    uint64_t blocks;
    size_t count;
    struct p2l_message messages[P2L_ABREAST];
};

/* Sixteen of one size in a row are hashed where they stand. Others go to a bin, chosen by the low bits of their number
 * of blocks; whoever finds others in his bin sends them away, to be hashed together if they are many, else to the
 * rest. */
static void hash_in_bins(const struct p2l_hashing *hashing, const uint8_t *tag, size_t tag_size,
                         const struct p2l_message *messages, size_t count)
{
    enum { BINS = 16, REST = 8 * P2L_ABREAST };
    struct bin bins[BINS];
    struct padding padding = {.size = UINT64_MAX};
    struct p2l_message rest[REST];
    size_t resting = 0;

    for (size_t i = 0; i < BINS; i++)
        bins[i].count = 0;
    for (size_t i = 0; i < count + BINS;) { /* the last ones only empty the bins */
        if (i + P2L_ABREAST <= count && sizes_alike(&messages[i], P2L_ABREAST) == P2L_ABREAST) {
            hash_together(hashing, tag, tag_size, &messages[i], 1, &padding);
            i += P2L_ABREAST;
            continue;
        }
        const uint64_t blocks = i < count ? p2l_sha256_blocks(tag_size + (uint64_t)messages[i].size) : 0;
        struct bin *bin = &bins[i < count ? blocks % BINS : i - count];
        if (bin->count > 0 && (bin->blocks != blocks || bin->count == P2L_ABREAST)) {
            if (bin->count >= hashing->abreast_least) {
                for (; bin->count < P2L_ABREAST; bin->count++)
                    bin->messages[bin->count] = bin->messages[0];
                hash_together(hashing, tag, tag_size, bin->messages,
                              sizes_alike(bin->messages, P2L_ABREAST) == P2L_ABREAST, &padding);
            } else {
                memcpy(rest + resting, bin->messages, bin->count * sizeof *rest);
                resting += bin->count;
            }
            bin->count = 0;
            if (resting + P2L_ABREAST > REST) {
                hash_few(hashing, tag, tag_size, rest, resting);
                resting = 0;
            }
        }
        if (i < count) {
            bin->blocks = blocks;
            bin->messages[bin->count++] = messages[i];
        }
        i++;
    }
    hash_few(hashing, tag, tag_size, rest, resting);
}

void p2l_sha256_messages(const uint8_t *tag, size_t tag_size, const struct p2l_message *messages, size_t count)
{
    const struct p2l_hashing *hashing = p2l_hashing();
    if (hashing->abreast != NULL && count >= hashing->abreast_least)
        hash_in_bins(hashing, tag, tag_size, messages, count);
    else
        hash_few(hashing, tag, tag_size, messages, count);
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
    if (hashing->nodes != NULL) {
        for (; count >= P2L_ABREAST; count -= P2L_ABREAST, pairs += P2L_ABREAST)
            hashing->nodes(pairs, tag_size);
        if (count >= hashing->abreast_least) {
            struct p2l_pair last[P2L_ABREAST];
            for (size_t i = 0; i < P2L_ABREAST; i++)
                last[i] = pairs[i < count ? i : 0];
            hashing->nodes(last, tag_size);
            return;
        }
    }
    if (hashing->narrow.width == 2)
        for (; count >= 2; count -= 2, pairs += 2) {
            const uint8_t *const at[2] = {blocks[0], blocks[1]};
            for (size_t i = 0; i < 2; i++) {
                node_blocks(&pairs[i], (size_t)tag_size, blocks[i]);
                memcpy(state + 8 * i, P2L_SHA256_START, sizeof P2L_SHA256_START);
            }
            hashing->narrow.compress(state, at, 2);
            hash_store(pairs[0].hash, state);
            hash_store(pairs[1].hash, state + 8);
        }
    for (; count > 0; count--, pairs++) {
        node_blocks(pairs, (size_t)tag_size, blocks[0]);
        memcpy(state, P2L_SHA256_START, sizeof P2L_SHA256_START);
        hashing->compress(state, blocks[0], 2);
        hash_store(pairs->hash, state);
    }
}
