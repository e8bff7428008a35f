/* Merkle trees over lists: RFC 9162, section 2.1. */

#include "internal.h"

void p2l_merkle_leaf(const uint8_t *data, size_t size, uint8_t out[32])
{
    struct p2l_sha256 hash;
    p2l_sha256_init(&hash);
    p2l_sha256_update(&hash, "\x00", 1);
    p2l_sha256_update(&hash, data, size);
    p2l_sha256_final(&hash, out);
}

void p2l_merkle_node(const uint8_t left[32], const uint8_t right[32], uint8_t out[32])
{
    struct p2l_sha256 hash;
    p2l_sha256_init(&hash);
    p2l_sha256_update(&hash, "\x01", 1);
    p2l_sha256_update(&hash, left, 32);
    p2l_sha256_update(&hash, right, 32);
    p2l_sha256_final(&hash, out);
}

void p2l_merkle_leaves(const struct p2l_span *leaves, size_t count, uint8_t *hashes)
{
    for (size_t i = 0; i < count; i++)
        p2l_merkle_leaf(leaves[i].data, leaves[i].size, hashes + 32 * i);
}

void p2l_merkle_push(struct p2l_merkle *tree, const uint8_t leaf_hash[32])
{
    uint8_t running[32];
    int height = 0;
    memcpy(running, leaf_hash, 32);
    for (; tree->count >> height & 1; height++)
        p2l_merkle_node(tree->stack[height], running, running);
    memcpy(tree->stack[height], running, 32);
    tree->count++;
}

/* The split at the largest power of two puts the full subtrees side by side, largest first; folding them from the
 * right gives the root. */
void p2l_merkle_finish(const struct p2l_merkle *tree, uint8_t root[32])
{
    int height = 0;
    if (tree->count == 0) {
        struct p2l_sha256 hash;
        p2l_sha256_init(&hash);
        p2l_sha256_final(&hash, root);
        return;
    }
    while (!(tree->count >> height & 1))
        height++;
    memcpy(root, tree->stack[height], 32);
    for (height++; height < 64; height++)
        if (tree->count >> height & 1)
            p2l_merkle_node(tree->stack[height], root, root);
}

void p2l_merkle_root(const struct p2l_span *leaves, size_t count, uint8_t root[32])
{
    struct p2l_merkle tree;
    tree.count = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t hash[32];
        p2l_merkle_leaf(leaves[i].data, leaves[i].size, hash);
        p2l_merkle_push(&tree, hash);
    }
    p2l_merkle_finish(&tree, root);
}

/* Level by level, in place. A last node without a partner rises as it is: the same tree as that of the split. */
size_t p2l_merkle_path(uint8_t *hashes, size_t count, size_t index, uint8_t *path)
{
    size_t length = 0;
    while (count > 1) {
        size_t sibling = index ^ 1;
        if (sibling < count)
            memcpy(path + 32 * length++, hashes + 32 * sibling, 32);
        for (size_t i = 0; i + 1 < count; i += 2)
            p2l_merkle_node(hashes + 32 * i, hashes + 32 * (i + 1), hashes + 16 * i);
        if (count & 1)
            memmove(hashes + 16 * (count - 1), hashes + 32 * (count - 1), 32);
        count = (count + 1) / 2;
        index /= 2;
    }
    return length;
}

/* RFC 9162, section 2.1.3.2. */
int p2l_merkle_verify(const uint8_t root[32], const uint8_t leaf_hash[32], uint64_t index, uint64_t size,
                      const uint8_t *path, size_t path_count)
{
    uint8_t running[32];
    if (index >= size)
        return 0;
    uint64_t last = size - 1;
    memcpy(running, leaf_hash, 32);
    for (size_t i = 0; i < path_count; i++) {
        const uint8_t *sibling = path + 32 * i;
        if (last == 0)
            return 0;
        if (index & 1 || index == last) {
            p2l_merkle_node(sibling, running, running);
            while (!(index & 1) && index != 0) {
                index >>= 1;
                last >>= 1;
            }
        } else {
            p2l_merkle_node(running, sibling, running);
        }
        index >>= 1;
        last >>= 1;
    }
    return last == 0 && memcmp(running, root, 32) == 0;
}

size_t p2l_receipt_encode(const uint8_t id[32], const uint8_t code[4], uint8_t *receipt)
{
    size_t size = 36;
    memcpy(receipt, "\x94\x01\xc4\x20", 4);
    memcpy(receipt + 4, id, 32);
    size += p2l_write_uint(receipt + size, (uint64_t)code[0] << 8 | code[1]);
    size += p2l_write_uint(receipt + size, (uint64_t)code[2] << 8 | code[3]);
    return size;
}

void p2l_receipts_root(const uint8_t *ids, const uint8_t *codes, size_t count, uint8_t root[32])
{
    struct p2l_merkle tree;
    tree.count = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t receipt[P2L_RECEIPT_MAX], hash[32];
        size_t size = p2l_receipt_encode(ids + 32 * i, codes + 4 * i, receipt);
        p2l_merkle_leaf(receipt, size, hash);
        p2l_merkle_push(&tree, hash);
    }
    p2l_merkle_finish(&tree, root);
}
