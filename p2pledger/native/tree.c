/* The state tree (protocol.md, section 7): 64 Merkle crit-bit trees with versions that share what did not change.
 *
 * A leaf is a key with its value. A fork at bit b has below it exactly the keys that agree on their first b bits,
 * those with bit b = 0 in child[0], the others in child[1]. Bits grow on every path downwards: no path is longer
 * than a key has bits (P2L_DEPTH_MAX), whatever keys somebody chooses, and nothing here recurses.
 *
 * Versions. Nodes count their references, from forks above and from tops of states. A writer may change a node in
 * place if every reference on the way from its own top down to it is the only one: then nobody else can reach it.
 * Otherwise it copies the node, which gives each child one reference more, and goes on below with the copy. A new
 * branch shares the tops of its parent, so the first write copies one path and later ones find it their own.
 *
 * Threads. Counting is atomic; a thread that finds the count at 1 (acquire) sees all that former holders did
 * (release). A state on which p2l_state_hash was called last has all hashes: nobody writes to its nodes any more but
 * to their counts, so any number of threads may read it, branch from it and release it.
 *
 * Hashes are missing (hashed = 0) exactly on the paths that were written since the last p2l_state_hash, and a node
 * without its hash is always reachable from one branch only. */

#include "internal.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { LEAF = 0x8000 }; /* in `mark` of a leaf, together with the width of its key; a fork's mark is its bit */

struct p2l_node {
    _Atomic uint32_t references;
    uint16_t mark;
    uint8_t hashed;
    uint8_t table; /* of a leaf */
    uint8_t hash[32];
};

struct fork {
    struct p2l_node node;
    struct p2l_node *child[2];
};

struct leaf {
    struct p2l_node node;
    uint32_t value_size;
    uint8_t bytes[]; /* the key, then the value */
};

struct p2l_state {
    struct p2l_node *tops[P2L_TABLES];
    uint64_t counts[P2L_TABLES];
    uint8_t widths[P2L_TABLES];
};

/* Memory -------------------------------------------------------------------------------------------------------- */

static _Atomic int64_t allocations_left = -1;

void p2l_allocations_fail_after(int64_t count)
{
    atomic_store(&allocations_left, count);
}

static int allocation_fails(void)
{
    if (atomic_load_explicit(&allocations_left, memory_order_relaxed) < 0)
        return 0;
    if (atomic_fetch_sub(&allocations_left, 1) > 0)
        return 0;
    atomic_store(&allocations_left, 0);
    return 1;
}

void *p2l_allocate(size_t size)
{
    return allocation_fails() ? NULL : malloc(size);
}

void *p2l_reallocate(void *memory, size_t size)
{
    return allocation_fails() ? NULL : realloc(memory, size);
}

static inline int is_leaf(const struct p2l_node *node)
{
    return node->mark & LEAF;
}

static inline struct fork *as_fork(const struct p2l_node *node)
{
    return (struct fork *)node;
}

static inline struct leaf *as_leaf(const struct p2l_node *node)
{
    return (struct leaf *)node;
}

static inline size_t leaf_width(const struct leaf *leaf)
{
    return leaf->node.mark & ~(unsigned)LEAF;
}

static struct p2l_node *leaf_new(unsigned table, const uint8_t *key, size_t width, const uint8_t *value, size_t size)
{
    struct leaf *leaf = p2l_allocate(sizeof *leaf + width + size);
    if (leaf == NULL)
        return NULL;
    atomic_init(&leaf->node.references, 1);
    leaf->node.mark = (uint16_t)(LEAF | width);
    leaf->node.hashed = 0;
    leaf->node.table = (uint8_t)table;
    leaf->value_size = (uint32_t)size;
    memcpy(leaf->bytes, key, width);
    if (size > 0)
        memcpy(leaf->bytes + width, value, size);
    return &leaf->node;
}

static void node_retain(struct p2l_node *node)
{
    atomic_fetch_add_explicit(&node->references, 1, memory_order_relaxed);
}

static int node_unreferenced(struct p2l_node *node)
{
    return atomic_fetch_sub_explicit(&node->references, 1, memory_order_acq_rel) == 1;
}

/* Gives up one reference, and frees what nobody holds then. A dead node's hash is not needed any more: it links the
 * dead ones that wait for being freed. */
static void node_release(struct p2l_node *node)
{
    struct p2l_node *waiting = NULL;
    if (!node_unreferenced(node))
        return;
    memcpy(node->hash, &waiting, sizeof waiting);
    waiting = node;
    while (waiting != NULL) {
        node = waiting;
        memcpy(&waiting, node->hash, sizeof waiting);
        if (!is_leaf(node)) {
            for (int side = 0; side < 2; side++) {
                struct p2l_node *child = as_fork(node)->child[side];
                if (node_unreferenced(child)) {
                    memcpy(child->hash, &waiting, sizeof waiting);
                    waiting = child;
                }
            }
        }
        free(node);
    }
}

/* Makes the fork in the slot, which is reached over own forks only, an own one without a hash. */
static struct fork *fork_own(struct p2l_node **slot)
{
    struct p2l_node *node = *slot;
    if (atomic_load_explicit(&node->references, memory_order_acquire) != 1) {
        struct fork *copy = p2l_allocate(sizeof *copy);
        if (copy == NULL)
            return NULL;
        atomic_init(&copy->node.references, 1);
        copy->node.mark = node->mark;
        copy->node.table = 0;
        for (int side = 0; side < 2; side++) {
            copy->child[side] = as_fork(node)->child[side];
            node_retain(copy->child[side]);
        }
        *slot = &copy->node;
        node_release(node);
    }
    (*slot)->hashed = 0;
    return as_fork(*slot);
}

/* Keys ---------------------------------------------------------------------------------------------------------- */

static inline int key_bit(const uint8_t *key, unsigned bit)
{
    return key[bit >> 3] >> (7 - (bit & 7)) & 1;
}

/* The number of the first bit in which two keys differ, or -1. */
static int first_difference(const uint8_t *one, const uint8_t *other, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        unsigned difference = one[i] ^ other[i];
        if (difference) {
            int bit = (int)(8 * i);
            for (; !(difference & 0x80); difference <<= 1)
                bit++;
            return bit;
        }
    }
    return -1;
}

/* The leaf at which the path of the key ends. */
static const struct leaf *nearest_leaf(const struct p2l_node *node, const uint8_t *key)
{
    while (!is_leaf(node))
        node = as_fork(node)->child[key_bit(key, node->mark)];
    return as_leaf(node);
}

static uint64_t leaves_count(const struct p2l_node *top)
{
    const struct p2l_node *waiting[P2L_DEPTH_MAX + 1];
    size_t depth = 0;
    uint64_t count = 0;
    waiting[depth++] = top;
    while (depth > 0) {
        const struct p2l_node *node = waiting[--depth];
        for (; !is_leaf(node); node = as_fork(node)->child[0])
            waiting[depth++] = as_fork(node)->child[1];
        count++;
    }
    return count;
}

/* States -------------------------------------------------------------------------------------------------------- */

struct p2l_state *p2l_state_create(const uint8_t widths[P2L_TABLES])
{
    struct p2l_state *state = p2l_allocate(sizeof *state);
    if (state == NULL)
        return NULL;
    memset(state, 0, sizeof *state);
    memcpy(state->widths, widths, sizeof state->widths);
    return state;
}

struct p2l_state *p2l_state_branch(const struct p2l_state *state)
{
    struct p2l_state *branch = p2l_allocate(sizeof *branch);
    if (branch == NULL)
        return NULL;
    memcpy(branch, state, sizeof *branch);
    for (int table = 0; table < P2L_TABLES; table++)
        if (branch->tops[table] != NULL)
            node_retain(branch->tops[table]);
    return branch;
}

void p2l_state_free(struct p2l_state *state)
{
    if (state == NULL)
        return;
    for (int table = 0; table < P2L_TABLES; table++)
        if (state->tops[table] != NULL)
            node_release(state->tops[table]);
    free(state);
}

unsigned p2l_state_width(const struct p2l_state *state, unsigned table)
{
    return state->widths[table];
}

uint64_t p2l_state_count(const struct p2l_state *state, unsigned table)
{
    return state->counts[table];
}

int p2l_state_get(const struct p2l_state *state, unsigned table, const uint8_t *key, struct p2l_span *value)
{
    const struct leaf *leaf;
    size_t width = state->widths[table];
    if (state->tops[table] == NULL)
        return 0;
    leaf = nearest_leaf(state->tops[table], key);
    if (memcmp(leaf->bytes, key, width) != 0)
        return 0;
    value->data = leaf->bytes + width;
    value->size = leaf->value_size;
    return 1;
}

int p2l_state_put(struct p2l_state *state, unsigned table, const uint8_t *key, const uint8_t *value, size_t size)
{
    size_t width = state->widths[table];
    struct p2l_node **slot = &state->tops[table], *fresh;
    struct fork *fork = NULL;
    const struct leaf *nearest;
    int difference;

    if (*slot == NULL) {
        *slot = leaf_new(table, key, width, value, size);
        if (*slot == NULL)
            return P2L_NO_MEMORY;
        state->counts[table] = 1;
        return P2L_OK;
    }
    nearest = nearest_leaf(*slot, key);
    difference = first_difference(nearest->bytes, key, width);
    if (difference < 0 && nearest->value_size == size &&
        (size == 0 || memcmp(nearest->bytes + width, value, size) == 0))
        return P2L_OK;
    fresh = leaf_new(table, key, width, value, size);
    if (fresh == NULL)
        return P2L_NO_MEMORY;
    if (difference >= 0) {
        fork = p2l_allocate(sizeof *fork);
        if (fork == NULL) {
            free(fresh);
            return P2L_NO_MEMORY;
        }
    }
    while (!is_leaf(*slot) && (difference < 0 || (*slot)->mark < difference)) {
        struct fork *own = fork_own(slot);
        if (own == NULL) {
            /* The copies made so far hold the same rows; only their hashes will be computed again. */
            free(fresh);
            free(fork);
            return P2L_NO_MEMORY;
        }
        slot = &own->child[key_bit(key, own->node.mark)];
    }
    if (difference < 0) {
        node_release(*slot);
        *slot = fresh;
        return P2L_OK;
    }
    atomic_init(&fork->node.references, 1);
    fork->node.mark = (uint16_t)difference;
    fork->node.hashed = 0;
    fork->node.table = 0;
    fork->child[key_bit(key, (unsigned)difference)] = fresh;
    fork->child[!key_bit(key, (unsigned)difference)] = *slot;
    *slot = &fork->node;
    state->counts[table]++;
    return P2L_OK;
}

/* Takes the own fork in the slot away, with the child of that side; its other child takes its place. */
static void fork_remove(struct p2l_node **slot, int side)
{
    struct fork *fork = as_fork(*slot);
    *slot = fork->child[!side];
    node_release(fork->child[side]);
    free(fork);
}

/* Takes away the subtree that hangs where the path of `key` leads through the forks below bit `until`. */
static int subtree_remove(struct p2l_state *state, unsigned table, const uint8_t *key, unsigned until)
{
    struct p2l_node **slot = &state->tops[table], **above = NULL;
    int side = 0;
    while (!is_leaf(*slot) && (*slot)->mark < until) {
        struct fork *own = fork_own(slot);
        if (own == NULL)
            return P2L_NO_MEMORY;
        above = slot;
        side = key_bit(key, own->node.mark);
        slot = &own->child[side];
    }
    if (above == NULL) {
        node_release(*slot);
        *slot = NULL;
    } else {
        fork_remove(above, side);
    }
    return P2L_OK;
}

int p2l_state_delete(struct p2l_state *state, unsigned table, const uint8_t *key, int *found)
{
    struct p2l_span value;
    int status = P2L_OK;
    *found = p2l_state_get(state, table, key, &value);
    if (*found) {
        status = subtree_remove(state, table, key, P2L_DEPTH_MAX);
        if (status == P2L_OK)
            state->counts[table]--;
    }
    return status;
}

/* The subtree that holds exactly the keys with this prefix, or NULL. */
static const struct p2l_node *prefix_subtree(const struct p2l_state *state, unsigned table, const uint8_t *prefix,
                                             size_t size)
{
    const struct p2l_node *node = state->tops[table], *leaf;
    while (node != NULL && !is_leaf(node) && node->mark < 8 * size)
        node = as_fork(node)->child[key_bit(prefix, node->mark)];
    for (leaf = node; leaf != NULL && !is_leaf(leaf); leaf = as_fork(leaf)->child[0])
        ;
    return leaf != NULL && (size == 0 || memcmp(as_leaf(leaf)->bytes, prefix, size) == 0) ? node : NULL;
}

int p2l_state_delete_prefix(struct p2l_state *state, unsigned table, const uint8_t *prefix, size_t size,
                            uint64_t *deleted)
{
    const struct p2l_node *subtree = prefix_subtree(state, table, prefix, size);
    uint64_t count;
    int status;
    *deleted = 0;
    if (subtree == NULL)
        return P2L_OK;
    count = leaves_count(subtree);
    status = subtree_remove(state, table, prefix, (unsigned)(8 * size));
    if (status == P2L_OK) {
        *deleted = count;
        state->counts[table] -= count;
    }
    return status;
}

/* Walks the path of the bound: whatever hangs left of it goes. */
int p2l_state_delete_below(struct p2l_state *state, unsigned table, const uint8_t *prefix, size_t size,
                           uint64_t *deleted)
{
    size_t width = state->widths[table];
    uint8_t bound[P2L_KEY_WIDTH_MAX] = {0};
    struct p2l_node **slot = &state->tops[table], **above = NULL;
    const struct p2l_node *least = *slot;
    int difference;

    *deleted = 0;
    if (size > 0)
        memcpy(bound, prefix, size);
    while (least != NULL && !is_leaf(least))
        least = as_fork(least)->child[0];
    if (least == NULL || memcmp(as_leaf(least)->bytes, bound, width) >= 0)
        return P2L_OK;
    difference = first_difference(nearest_leaf(*slot, bound)->bytes, bound, width);
    while (!is_leaf(*slot) && (difference < 0 || (*slot)->mark < difference)) {
        struct fork *own = fork_own(slot);
        if (own == NULL) {
            state->counts[table] -= *deleted;
            return P2L_NO_MEMORY;
        }
        if (key_bit(bound, own->node.mark)) {
            *deleted += leaves_count(own->child[0]);
            fork_remove(slot, 0);
        } else {
            above = slot;
            slot = &own->child[0];
        }
    }
    /* The keys that are left here agree with the bound up to where they all differ from it, or are the bound. */
    if (difference >= 0 && key_bit(bound, (unsigned)difference)) {
        *deleted += leaves_count(*slot);
        if (above == NULL) {
            node_release(*slot);
            *slot = NULL;
        } else {
            fork_remove(above, 0);
        }
    }
    state->counts[table] -= *deleted;
    return P2L_OK;
}

/* Hashes -------------------------------------------------------------------------------------------------------- */

static void leaf_hash(uint8_t table, const uint8_t *key, size_t width, const uint8_t *value, size_t size,
                      uint8_t out[32])
{
    struct p2l_sha256 hash;
    uint8_t head[2] = {0x02, table};
    p2l_sha256_init(&hash);
    p2l_sha256_update(&hash, head, 2);
    p2l_sha256_update(&hash, key, width);
    p2l_sha256_update(&hash, value, size);
    p2l_sha256_final(&hash, out);
}

static void fork_hash(uint16_t bit, const uint8_t left[32], const uint8_t right[32], uint8_t out[32])
{
    struct p2l_sha256 hash;
    uint8_t head[3] = {0x03, (uint8_t)(bit >> 8), (uint8_t)bit};
    p2l_sha256_init(&hash);
    p2l_sha256_update(&hash, head, 3);
    p2l_sha256_update(&hash, left, 32);
    p2l_sha256_update(&hash, right, 32);
    p2l_sha256_final(&hash, out);
}

static void node_hash(struct p2l_node *node)
{
    struct p2l_node *above[P2L_DEPTH_MAX];
    size_t depth = 0;
    for (;;) {
        while (!node->hashed) {
            if (is_leaf(node)) {
                struct leaf *leaf = as_leaf(node);
                size_t width = leaf_width(leaf);
                leaf_hash(node->table, leaf->bytes, width, leaf->bytes + width, leaf->value_size, node->hash);
                node->hashed = 1;
                break;
            }
            struct p2l_node **child = as_fork(node)->child;
            if (child[0]->hashed && child[1]->hashed) {
                fork_hash(node->mark, child[0]->hash, child[1]->hash, node->hash);
                node->hashed = 1;
                break;
            }
            above[depth++] = node;
            node = child[0]->hashed ? child[1] : child[0];
        }
        if (depth == 0)
            return;
        node = above[--depth];
    }
}

void p2l_state_hash(struct p2l_state *state)
{
    for (int table = 0; table < P2L_TABLES; table++)
        if (state->tops[table] != NULL)
            node_hash(state->tops[table]);
}

void p2l_state_table_root(const struct p2l_state *state, unsigned table, uint8_t root[32])
{
    if (state->tops[table] == NULL)
        memset(root, 0, 32);
    else
        memcpy(root, state->tops[table]->hash, 32);
}

static void table_hashes(const struct p2l_state *state, uint8_t hashes[P2L_TABLES][32])
{
    for (unsigned table = 0; table < P2L_TABLES; table++) {
        uint8_t root[32];
        p2l_state_table_root(state, table, root);
        p2l_merkle_leaf(root, 32, hashes[table]);
    }
}

void p2l_state_root(const struct p2l_state *state, uint8_t root[32])
{
    uint8_t hashes[P2L_TABLES][32];
    table_hashes(state, hashes);
    for (int count = P2L_TABLES; count > 1; count /= 2)
        for (int i = 0; i < count; i += 2)
            p2l_merkle_node(hashes[i], hashes[i + 1], hashes[i / 2]);
    memcpy(root, hashes[0], 32);
}

/* Proofs -------------------------------------------------------------------------------------------------------- */

void p2l_state_prove(const struct p2l_state *state, unsigned table, const uint8_t *key, struct p2l_proof *proof)
{
    uint8_t hashes[P2L_TABLES][32];
    const struct p2l_node *node = state->tops[table];
    size_t width = state->widths[table];

    table_hashes(state, hashes);
    p2l_merkle_path(&hashes[0][0], P2L_TABLES, table, &proof->tables[0][0]);
    memset(&proof->leaf_key, 0, sizeof proof->leaf_key);
    memset(&proof->leaf_value, 0, sizeof proof->leaf_value);
    proof->path_count = 0;
    if (node == NULL)
        return;
    for (; !is_leaf(node); node = as_fork(node)->child[key_bit(key, node->mark)])
        proof->path_count++;
    proof->leaf_key.data = as_leaf(node)->bytes;
    proof->leaf_key.size = width;
    proof->leaf_value.data = as_leaf(node)->bytes + width;
    proof->leaf_value.size = as_leaf(node)->value_size;
    /* The path is told from the leaf upwards. */
    node = state->tops[table];
    for (size_t i = proof->path_count; i > 0; i--) {
        int side = key_bit(key, node->mark);
        proof->bits[i - 1] = node->mark;
        memcpy(proof->siblings[i - 1], as_fork(node)->child[!side]->hash, 32);
        node = as_fork(node)->child[side];
    }
}

int p2l_state_verify(const uint8_t root[32], unsigned table, struct p2l_span key, struct p2l_span value,
                     const struct p2l_proof *proof)
{
    uint8_t running[32];
    struct p2l_span leaf_key = proof->leaf_key, leaf_value = proof->leaf_value;
    if (leaf_key.data == NULL) {
        if (proof->path_count > 0 || value.data != NULL)
            return 0;
        memset(running, 0, 32);
    } else {
        unsigned below = (unsigned)(8 * key.size);
        int same;
        if (key.size < 1 || key.size > P2L_KEY_WIDTH_MAX || leaf_key.size != key.size)
            return 0;
        same = memcmp(leaf_key.data, key.data, key.size) == 0;
        leaf_hash((uint8_t)table, leaf_key.data, leaf_key.size, leaf_value.data, leaf_value.size, running);
        for (size_t i = 0; i < proof->path_count; i++) {
            unsigned bit = proof->bits[i];
            if (bit >= below || key_bit(key.data, bit) != key_bit(leaf_key.data, bit))
                return 0;
            below = bit;
            if (key_bit(key.data, bit))
                fork_hash((uint16_t)bit, proof->siblings[i], running, running);
            else
                fork_hash((uint16_t)bit, running, proof->siblings[i], running);
        }
        if (value.data == NULL ? same
                               : !same || value.size != leaf_value.size ||
                                     memcmp(value.data, leaf_value.data, value.size) != 0)
            return 0;
    }
    p2l_merkle_leaf(running, 32, running);
    for (int height = 0; height < P2L_TABLE_HEIGHT; height++) {
        if (table >> height & 1)
            p2l_merkle_node(proof->tables[height], running, running);
        else
            p2l_merkle_node(running, proof->tables[height], running);
    }
    return memcmp(running, root, 32) == 0;
}

/* Scans --------------------------------------------------------------------------------------------------------- */

void p2l_cursor_open(struct p2l_cursor *cursor, const struct p2l_state *state, unsigned table,
                     const uint8_t *prefix, size_t prefix_size, const uint8_t *after)
{
    const struct p2l_node *node = prefix_subtree(state, table, prefix, prefix_size);
    int side = 0, difference;
    cursor->depth = 0;
    if (node == NULL)
        return;
    if (after != NULL && prefix_size > 0)
        side = memcmp(after, prefix, prefix_size);
    if (side > 0)
        return;
    if (after == NULL || side < 0) {
        cursor->waiting[cursor->depth++] = node;
        return;
    }
    /* Keep of every fork on the path of `after` what lies right of it; then judge the subtree at which `after`
     * leaves the tree: all its keys are above it or all below it. */
    difference = first_difference(nearest_leaf(node, after)->bytes, after, state->widths[table]);
    while (!is_leaf(node) && (difference < 0 || node->mark < difference)) {
        int right = key_bit(after, node->mark);
        if (!right)
            cursor->waiting[cursor->depth++] = as_fork(node)->child[1];
        node = as_fork(node)->child[right];
    }
    if (difference >= 0 && !key_bit(after, (unsigned)difference))
        cursor->waiting[cursor->depth++] = node;
}

int p2l_cursor_next(struct p2l_cursor *cursor, struct p2l_span *key, struct p2l_span *value)
{
    const struct p2l_node *node;
    if (cursor->depth == 0)
        return 0;
    node = cursor->waiting[--cursor->depth];
    for (; !is_leaf(node); node = as_fork(node)->child[0])
        cursor->waiting[cursor->depth++] = as_fork(node)->child[1];
    key->data = as_leaf(node)->bytes;
    key->size = leaf_width(as_leaf(node));
    value->data = key->data + key->size;
    value->size = as_leaf(node)->value_size;
    return 1;
}
