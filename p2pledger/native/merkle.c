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
    p2l_sha256_spans((const uint8_t *)"\0", 1, leaves, count, hashes);
}

/* Makes the level above from `count` hashes, in their place; returns how many it has. A last one without a partner
 * rises as it is: the same tree as that of the split at the largest power of two. */
static size_t level_raise(uint8_t *hashes, size_t count)
{
    struct p2l_pair pairs[128];
    for (size_t i = 0; i + 1 < count;) {
        size_t some = 0;
        for (; some < 128 && i + 1 < count; some++, i += 2)
            pairs[some] = (struct p2l_pair){hashes + 32 * i, hashes + 32 * (i + 1), hashes + 16 * i, 0x01};
        p2l_sha256_nodes(pairs, some, 1);
    }
    if (count & 1)
        memmove(hashes + 16 * (count - 1), hashes + 32 * (count - 1), 32);
    return (count + 1) / 2;
}

/* An RFC 9162 tree fed from the left: stack[k] holds the full subtree of 2^k items for every bit k of count. */
struct p2l_merkle {
    uint64_t count;
    uint8_t stack[64][32];
};

static void merkle_push(struct p2l_merkle *tree, const uint8_t hash[32])
{
    uint8_t running[32];
    int height = 0;
    memcpy(running, hash, 32);
    for (; tree->count >> height & 1; height++)
        p2l_merkle_node(tree->stack[height], running, running);
    memcpy(tree->stack[height], running, 32);
    tree->count++;
}

/* The split at the largest power of two puts the full subtrees side by side, largest first, and `rest` (or NULL) right
 * of them; folding them from the right gives the root. */
static void merkle_finish(const struct p2l_merkle *tree, const uint8_t *rest, uint8_t root[32])
{
    if (rest == NULL && tree->count == 0) {
        struct p2l_sha256 hash;
        p2l_sha256_init(&hash);
        p2l_sha256_final(&hash, root);
        return;
    }
    if (rest != NULL)
        memcpy(root, rest, 32);
    for (int height = 0; height < 64; height++) {
        if (!(tree->count >> height & 1))
            continue;
        if (rest == NULL)
            memcpy(root, tree->stack[height], 32);
        else
            p2l_merkle_node(tree->stack[height], root, root);
        rest = root;
    }
}

/* Leaves are taken in runs. A full run is a full subtree, made level by level in one small place; its root counts as
 * a leaf of the tree above. The last run may be shorter: its root stands right of all that is there. */
enum { RUN = 1024 };

static void run_raise(uint8_t *hashes, size_t count)
{
    while (count > 1)
        count = level_raise(hashes, count);
}

void p2l_merkle_root(const struct p2l_span *leaves, size_t count, uint8_t root[32])
{
    struct p2l_merkle runs;
    uint8_t hashes[32 * RUN];
    runs.count = 0;
    for (; count >= RUN; leaves += RUN, count -= RUN) {
        p2l_merkle_leaves(leaves, RUN, hashes);
        run_raise(hashes, RUN);
        merkle_push(&runs, hashes);
    }
    p2l_merkle_leaves(leaves, count, hashes);
    run_raise(hashes, count);
    merkle_finish(&runs, count > 0 ? hashes : NULL, root);
}

/* The same over the signed transactions of columns, without a list of them. */
void p2l_columns_root(const struct p2l_columns *columns, uint8_t root[32])
{
    struct p2l_merkle runs;
    uint8_t hashes[32 * RUN];
    struct p2l_span spans[RUN];
    size_t at = 0, some;
    runs.count = 0;
    do {
        for (some = 0; some < RUN && at < columns->count; some++, at++)
            spans[some] = (struct p2l_span){columns->data + columns->rows[at].start,
                                            columns->rows[at].end - columns->rows[at].start};
        p2l_merkle_leaves(spans, some, hashes);
        run_raise(hashes, some);
        if (some == RUN)
            merkle_push(&runs, hashes);
    } while (some == RUN);
    merkle_finish(&runs, some > 0 ? hashes : NULL, root);
}

size_t p2l_merkle_path(uint8_t *hashes, size_t count, size_t index, uint8_t *path)
{
    size_t length = 0;
    while (count > 1) {
        size_t sibling = index ^ 1;
        if (sibling < count)
            memcpy(path + 32 * length++, hashes + 32 * sibling, 32);
        count = level_raise(hashes, count);
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
    enum { SOME = 128 };
    struct p2l_merkle runs;
    uint8_t hashes[32 * RUN], receipts[SOME][P2L_RECEIPT_MAX];
    struct p2l_span spans[SOME];
    size_t filled = 0;
    runs.count = 0;
    while (count > 0) {
        size_t some = count < SOME ? count : SOME; /* RUN is a multiple of it */
        for (size_t i = 0; i < some; i++)
            spans[i] = (struct p2l_span){receipts[i], p2l_receipt_encode(ids + 32 * i, codes + 4 * i, receipts[i])};
        p2l_merkle_leaves(spans, some, hashes + 32 * filled);
        ids += 32 * some;
        codes += 4 * some;
        count -= some;
        filled += some;
        if (filled == RUN) {
            run_raise(hashes, RUN);
            merkle_push(&runs, hashes);
            filled = 0;
        }
    }
    run_raise(hashes, filled);
    merkle_finish(&runs, filled > 0 ? hashes : NULL, root);
}
