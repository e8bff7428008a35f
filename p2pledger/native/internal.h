/* What the C files share among themselves. */

#ifndef P2L_INTERNAL_H
#define P2L_INTERNAL_H

#include "p2l.h"

#include <string.h>

/* One CPU level; what runs at it is looked up by its index, P2L_PORTABLE .. P2L_AVX512. */
struct p2l_level {
    const char *name;
    int (*available)(void);
    const struct p2l_ed25519_kernels *ed25519;
};
enum { P2L_PORTABLE, P2L_AVX2, P2L_AVX512 };

#if defined(__x86_64__) && defined(__GNUC__)
#define P2L_X86_64 1
#endif

/* SHA-256 ------------------------------------------------------------------------------------------------------- */

extern const uint32_t P2L_SHA256_ROUND[64], P2L_SHA256_START[8];

/* A kernel that compresses `width` messages side by side, `count` blocks of each. Of two the states stand one after the
 * other; of sixteen word k of lane i stands at states[16 * k + i]. */
enum { P2L_HASH_LANES_MAX = 16 };
struct p2l_lanes {
    void (*compress)(uint32_t *states, const uint8_t *const *blocks, size_t count);
    size_t width;
};

/* tag || data to each hash; a tag has at most 8 bytes. */
struct p2l_message {
    const uint8_t *data;
    size_t size;
    uint8_t *hash;
};

/* Two hashes side by side in a tree, and where the hash of their parent goes. */
struct p2l_pair {
    const uint8_t *left, *right;
    uint8_t *hash;
    uint32_t tag; /* 1 or 3 bytes of it; if 1, the same in all pairs of a call */
};

/* What SHA-256 runs on at one level. A width of 0, or a null pointer, is what there is none of. */
struct p2l_hashing {
    void (*compress)(uint32_t state[8], const uint8_t *blocks, size_t count);
    struct p2l_lanes narrow, wide;
    /* P2L_ABREAST whole messages, all of the same number of blocks, tag and padding included. `one_size`: all of the
     * same size, too; if then their last block is nothing but padding, `padding` may be what its 64 rounds add, word
     * and constant together, else it is NULL. If there are fewer messages, one of them is repeated. */
    void (*abreast)(const uint8_t *tag, size_t tag_size, const struct p2l_message *messages, int one_size,
                    const uint32_t *padding);
    /* P2L_ABREAST nodes, the same way. */
    void (*nodes)(const struct p2l_pair *pairs, int tag_size);
    /* Below so many at a time the last two do not pay. */
    size_t abreast_least;
};
enum { P2L_ABREAST = 16 };
/* At the level in use. */
const struct p2l_hashing *p2l_hashing(void);

void p2l_sha256_compress_portable(uint32_t state[8], const uint8_t *blocks, size_t count);
#ifdef P2L_X86_64
void p2l_sha256_compress_sha_ni(uint32_t state[8], const uint8_t *blocks, size_t count);
void p2l_sha256_lanes_sha_ni(uint32_t *states, const uint8_t *const *blocks, size_t count);
void p2l_sha256_lanes_avx512(uint32_t *states, const uint8_t *const *blocks, size_t count);
void p2l_sha256_abreast_avx512(const uint8_t *tag, size_t tag_size, const struct p2l_message *messages, int one_size,
                               const uint32_t *padding);
void p2l_sha256_nodes_avx512(const struct p2l_pair *pairs, int tag_size);
#endif

/* Of so many bytes with their padding. */
static inline uint64_t p2l_sha256_blocks(uint64_t size)
{
    return (size + 8) / 64 + 1;
}

static inline void p2l_sha256_compress(uint32_t state[8], const uint8_t *blocks, size_t count)
{
    p2l_hashing()->compress(state, blocks, count);
}

void p2l_sha256_messages(const uint8_t *tag, size_t tag_size, const struct p2l_message *messages, size_t count);
void p2l_sha256_spans(const uint8_t *tag, size_t tag_size, const struct p2l_span *spans, size_t count, uint8_t *hashes);
/* The hashes of tag (1 or 3 bytes, the low ones of pair.tag) || left || right. In one call a parent may be written over
 * children of its own pair and of pairs before it, so a level of a tree may be made in the place of the one below. */
void p2l_sha256_nodes(const struct p2l_pair *pairs, size_t count, int tag_size);

struct p2l_sha256 {
    uint32_t state[8];
    uint64_t size;
    uint8_t buffer[64];
};
void p2l_sha256_init(struct p2l_sha256 *hash);
void p2l_sha256_update(struct p2l_sha256 *hash, const void *data, size_t size);
void p2l_sha256_final(struct p2l_sha256 *hash, uint8_t out[32]);

void p2l_merkle_leaf(const uint8_t *data, size_t size, uint8_t hash[32]);
void p2l_merkle_node(const uint8_t left[32], const uint8_t right[32], uint8_t hash[32]);

/* A reader of canonical MessagePack. Each read returns 1, or 0 with refusal and refusal_at set. */
struct p2l_reader {
    const uint8_t *data;
    size_t position, end;
    int refusal;
    size_t refusal_at;
};
int p2l_read_uint(struct p2l_reader *reader, uint64_t *value);
int p2l_read_bytes(struct p2l_reader *reader, size_t width, const uint8_t **bytes);
int p2l_read_fields(struct p2l_reader *reader, uint64_t count);
int p2l_read_versioned(struct p2l_reader *reader, uint64_t count);
struct p2l_policy {
    uint64_t threshold, version;
    size_t count;
    const uint8_t *keys[16];
    uint64_t weights[16];
};
int p2l_read_policy(struct p2l_reader *reader, struct p2l_policy *policy);
size_t p2l_write_uint(uint8_t *out, uint64_t value);

/* Random bytes of the operating system (random.c); 0 if it has none to give. */
int p2l_random(uint8_t *bytes, size_t size);

/* malloc and realloc that tests can make fail. */
void *p2l_allocate(size_t size);
void *p2l_reallocate(void *memory, size_t size);

/* a x b + c + *carry; returns the low word and leaves the high one in *carry. Cannot overflow. */
static inline uint64_t p2l_multiply_add(uint64_t a, uint64_t b, uint64_t c, uint64_t *carry)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 sum = (unsigned __int128)a * b + c + *carry;
    *carry = (uint64_t)(sum >> 64);
    return (uint64_t)sum;
#else
    uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
    uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (middle & 0xffffffff);
    uint64_t high = a1 * b1 + (middle >> 32) + (other >> 32);
    low = other << 32 | (low & 0xffffffff);
    low += c;
    high += low < c;
    low += *carry;
    high += low < *carry;
    *carry = high;
    return low;
#endif
}

static inline uint32_t p2l_load32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static inline void p2l_store32(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 24);
    bytes[1] = (uint8_t)(value >> 16);
    bytes[2] = (uint8_t)(value >> 8);
    bytes[3] = (uint8_t)value;
}

static inline void p2l_store64(uint8_t *bytes, uint64_t value)
{
    p2l_store32(bytes, (uint32_t)(value >> 32));
    p2l_store32(bytes + 4, (uint32_t)value);
}

#endif
