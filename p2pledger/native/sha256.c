/* SHA-256 (FIPS 180-4): the portable compression, and the streaming that all levels share. */

#include "internal.h"

static const uint32_t ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

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
            uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + ROUND[i] + w[i];
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
    static const uint32_t START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, START, sizeof START);
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

void p2l_sha256_many(const struct p2l_span *messages, size_t count, uint8_t *hashes)
{
    for (size_t i = 0; i < count; i++) {
        struct p2l_sha256 hash;
        p2l_sha256_init(&hash);
        p2l_sha256_update(&hash, messages[i].data, messages[i].size);
        p2l_sha256_final(&hash, hashes + 32 * i);
    }
}

void p2l_sha256_tagged(const char tag[8], const uint8_t *data, size_t size, uint8_t out[32])
{
    struct p2l_sha256 hash;
    p2l_sha256_init(&hash);
    p2l_sha256_update(&hash, tag, 8);
    p2l_sha256_update(&hash, data, size);
    p2l_sha256_final(&hash, out);
}
