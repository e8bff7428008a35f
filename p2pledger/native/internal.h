/* What the C files share among themselves. */

#ifndef P2L_INTERNAL_H
#define P2L_INTERNAL_H

#include "p2l.h"

#include <string.h>

/* One CPU level: a kernel for each thing that has more than one. Slots for wider machines go in here. */
struct p2l_level {
    const char *name;
    int (*available)(void);
    void (*sha256_compress)(uint32_t state[8], const uint8_t *blocks, size_t count);
    const struct p2l_ed25519_kernels *ed25519;
};

void p2l_sha256_compress_portable(uint32_t state[8], const uint8_t *blocks, size_t count);
#if defined(__x86_64__) && defined(__GNUC__)
#define P2L_X86_64 1
void p2l_sha256_compress_sha_ni(uint32_t state[8], const uint8_t *blocks, size_t count);
#endif
/* At the level in use. */
void p2l_sha256_compress(uint32_t state[8], const uint8_t *blocks, size_t count);

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
/* An RFC 9162 tree fed leaf by leaf: stack[k] holds the full subtree of 2^k leaves for every bit k of count. */
struct p2l_merkle {
    uint64_t count;
    uint8_t stack[64][32];
};
void p2l_merkle_push(struct p2l_merkle *tree, const uint8_t leaf_hash[32]);
void p2l_merkle_finish(const struct p2l_merkle *tree, uint8_t root[32]);

/* A reader of canonical MessagePack. Each read returns 1, or 0 with refusal and refusal_at set. */
struct p2l_reader {
    const uint8_t *data;
    size_t position, end;
    int refusal;
    size_t refusal_at;
};
int p2l_read_uint(struct p2l_reader *reader, uint64_t *value);
int p2l_read_bytes(struct p2l_reader *reader, size_t width, const uint8_t **bytes);
int p2l_read_array(struct p2l_reader *reader, uint64_t *count);
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

/* malloc and realloc that tests can make fail. */
void *p2l_allocate(size_t size);
void *p2l_reallocate(void *memory, size_t size);

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
