/* SHA-512 (FIPS 180-4) of many messages, as many at a time as the level has lanes. */

#include "ed25519.h"

#include <stdlib.h>

const uint64_t p2l_sha512_rounds[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc, 0x3956c25bf348b538,
    0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118, 0xd807aa98a3030242, 0x12835b0145706fbe,
    0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2, 0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235,
    0xc19bf174cf692694, 0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5, 0x983e5152ee66dfab,
    0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4, 0xc6e00bf33da88fc2, 0xd5a79147930aa725,
    0x06ca6351e003826f, 0x142929670a0e6e70, 0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed,
    0x53380d139d95b3df, 0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30, 0xd192e819d6ef5218,
    0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8, 0x19a4c116b8d2d0c8, 0x1e376c085141ab53,
    0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8, 0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373,
    0x682e6ff3d6b2b8a3, 0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b, 0xca273eceea26619c,
    0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178, 0x06f067aa72176fba, 0x0a637dc5a2c898a6,
    0x113f9804bef90dae, 0x1b710b35131c471b, 0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc,
    0x431d67c49c100d4c, 0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817};

static const uint64_t START[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};

enum { BLOCK = 128 };

static uint64_t blocks_of(const struct p2l_sha512_message *message)
{
    uint64_t size = (message->prefix[0] != NULL ? 64 : 0) + (uint64_t)message->data.size;
    return (size + 17 + BLOCK - 1) / BLOCK;
}

/* Block number `index` of the padded message: in place where the data covers it, else put together in `scratch`. */
static const uint8_t *block_of(const struct p2l_sha512_message *message, uint64_t index, uint8_t scratch[BLOCK])
{
    uint64_t prefix = message->prefix[0] != NULL ? 64 : 0, size = prefix + message->data.size, start = index * BLOCK;
    if (start >= prefix && start + BLOCK <= size)
        return message->data.data + (start - prefix);
    memset(scratch, 0, BLOCK);
    uint64_t filled = 0;
    if (start < prefix) { /* the first block */
        memcpy(scratch, message->prefix[0], 32);
        memcpy(scratch + 32, message->prefix[1], 32);
        filled = 64;
    }
    if (start + filled < size) {
        uint64_t take = size - start - filled < BLOCK - filled ? size - start - filled : BLOCK - filled;
        memcpy(scratch + filled, message->data.data + (start + filled - prefix), take);
        filled += take;
    }
    if (start + filled == size && filled < BLOCK)
        scratch[filled] = 0x80;
    if (index + 1 == blocks_of(message)) { /* the size in bits, 128 of them */
        p2l_store64(scratch + BLOCK - 16, size >> 61);
        p2l_store64(scratch + BLOCK - 8, size << 3);
    }
    return scratch;
}

void p2l_sha512_messages(const struct p2l_sha512_message *messages, size_t count, uint32_t *order, uint8_t *hashes)
{
    const struct p2l_ed25519_kernels *kernels = p2l_ed25519_kernels();
    uint64_t state[8][P2L_LANES_MAX];
    uint8_t scratch[P2L_LANES_MAX][BLOCK] = {{0}};
    const uint8_t *blocks[P2L_LANES_MAX];
    /* Neighbours should be of the same length: a counting sort by the number of blocks, the longest taken together. */
    enum { CLASSES = 256 };
    uint32_t places[CLASSES + 1] = {0};
    for (size_t i = 0; i < count; i++) {
        uint64_t needed = blocks_of(&messages[i]);
        places[(needed < CLASSES ? needed : CLASSES - 1) + 1]++;
    }
    for (size_t i = 0; i < CLASSES; i++)
        places[i + 1] += places[i];
    for (size_t i = 0; i < count; i++) {
        uint64_t needed = blocks_of(&messages[i]);
        order[places[needed < CLASSES ? needed : CLASSES - 1]++] = (uint32_t)i;
    }
    for (size_t first = 0; first < count; first += kernels->lanes) {
        size_t used = count - first < kernels->lanes ? count - first : kernels->lanes;
        uint64_t longest = 0;
        for (size_t lane = 0; lane < P2L_LANES_MAX; lane++)
            for (int i = 0; i < 8; i++)
                state[i][lane] = START[i];
        for (size_t lane = 0; lane < used; lane++) {
            uint64_t needed = blocks_of(&messages[order[first + lane]]);
            longest = needed > longest ? needed : longest;
        }
        for (uint64_t index = 0; index < longest; index++) {
            unsigned mask = 0;
            for (size_t lane = 0; lane < kernels->lanes; lane++) {
                blocks[lane] = scratch[0];
                if (lane < used && index < blocks_of(&messages[order[first + lane]])) {
                    mask |= 1u << lane;
                    blocks[lane] = block_of(&messages[order[first + lane]], index, scratch[lane]);
                }
            }
            kernels->sha512_compress(state, blocks, mask);
        }
        for (size_t lane = 0; lane < used; lane++)
            for (int i = 0; i < 8; i++)
                p2l_store64(hashes + 64 * (size_t)order[first + lane] + 8 * i, state[i][lane]);
    }
}

int p2l_sha512_many(const struct p2l_span *messages, size_t count, uint8_t *hashes)
{
    struct p2l_sha512_message *all = p2l_allocate((count + 1) * sizeof *all);
    uint32_t *order = p2l_allocate((count + 1) * sizeof *order);
    int status = all == NULL || order == NULL ? P2L_NO_MEMORY : P2L_OK;
    if (status == P2L_OK) {
        for (size_t i = 0; i < count; i++)
            all[i] = (struct p2l_sha512_message){{NULL, NULL}, messages[i]};
        p2l_sha512_messages(all, count, order, hashes);
    }
    free(all);
    free(order);
    return status;
}
