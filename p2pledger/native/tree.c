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
 * Hashes. A node keeps its own hash, if `hashed` says so. It is missing only on paths that were written since the last
 * p2l_state_hash (a large p2l_state_change hashes most of what it writes itself), where it is missing it is missing in all
 * nodes above, and such a node is always reachable from one branch only. Writing a path touches what hangs beside it in
 * any case, to count references: so that is where the hashes of the neighbours cost nothing.
 *
 * Cache lines are what a large tree costs: nearly every node is far away. A fork fills exactly one, and a copy touches
 * three: the old fork, the new one, and the child that both have.
 *
 * Memory. Nodes come from slabs, by size, without headers and rounding, and large states from slabs of huge pages: a
 * path through a gigabyte of small pages misses the page tables at every step. A state keeps some free nodes of each
 * size at hand for its writer, so that the slabs' lock is taken rarely. Freed nodes are used again; slabs are never
 * given back to the system. */

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* madvise */
#endif

#include "internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

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
    struct p2l_node *waiting; /* in node_release */
};

struct leaf {
    struct p2l_node node;
    uint32_t value_size;
    uint8_t bytes[]; /* the key, then the value */
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

/* Sizes in steps of 8 up to SLAB_SIZE_MAX; what is larger has its own malloc. Under the address sanitizer everything
 * has, so that it sees every node. */
enum { CLASS_STEP = 8, CLASSES = 33, SLAB_SIZE_MAX = CLASS_STEP * (CLASSES - 1) };
enum { SLAB_BYTES = 1 << 16, HUGE_BYTES = 1 << 21, LINE = 64 };
#if defined(__SANITIZE_ADDRESS__)
#define P2L_SLABS 0
#else
#define P2L_SLABS 1
#endif

/* Free nodes are named in magazines and not linked through themselves: handing many of them on touches none of them. */
struct magazine {
    struct magazine *next;
    size_t count;
    void *nodes[62];
};
enum { MAGAZINE = sizeof((struct magazine *)0)->nodes / sizeof(void *) };

/* Free nodes by size: one magazine to take from and put into, and full ones. */
struct store {
    struct magazine *open[CLASSES], *full[CLASSES], *last[CLASSES];
};

static struct {
    atomic_flag busy;
    struct magazine *full[CLASSES];
    uint8_t *slab; /* what is left of the newest one */
    size_t slab_left, slabs_bytes;
} slabs = {.busy = ATOMIC_FLAG_INIT};

/* Held for some dozens of instructions, or while a slab is got from the system. */
static void slabs_enter(void)
{
    while (atomic_flag_test_and_set_explicit(&slabs.busy, memory_order_acquire))
        ;
}

static void slabs_leave(void)
{
    atomic_flag_clear_explicit(&slabs.busy, memory_order_release);
}

static inline size_t class_of(size_t size)
{
    return (size + CLASS_STEP - 1) / CLASS_STEP;
}

/* Small slabs until there are enough of them to fill a huge page. */
static void *slab_new(size_t so_far, size_t *size)
{
    void *slab = NULL;
#ifdef MADV_HUGEPAGE
    if (so_far >= HUGE_BYTES && posix_memalign(&slab, HUGE_BYTES, HUGE_BYTES) == 0) {
        madvise(slab, HUGE_BYTES, MADV_HUGEPAGE); /* a wish; small pages do as well */
        *size = HUGE_BYTES;
        return slab;
    }
#endif
    (void)so_far;
    *size = SLAB_BYTES;
    return aligned_alloc(LINE, SLAB_BYTES);
}

/* Gets a magazine with free nodes; NULL if there is no memory. New nodes are taken in the order of their addresses: a
 * path that is written together lies together. What is left of a slab that is too short for a node is given up. Nodes
 * that fill cache lines begin with one. */
static struct magazine *magazine_get(size_t class)
{
    size_t size = class * CLASS_STEP, count, skipped = 0;
    struct magazine *magazine;
    slabs_enter();
    magazine = slabs.full[class];
    if (magazine != NULL)
        slabs.full[class] = magazine->next;
    slabs_leave();
    if (magazine != NULL)
        return magazine;
    magazine = malloc(sizeof *magazine);
    if (magazine == NULL)
        return NULL;
    slabs_enter();
    if (size % LINE == 0)
        skipped = slabs.slab_left % LINE; /* slabs end where a line ends */
    if (slabs.slab_left < skipped + size) {
        size_t bytes;
        uint8_t *fresh = slab_new(slabs.slabs_bytes, &bytes);
        if (fresh == NULL) {
            slabs_leave();
            free(magazine);
            return NULL;
        }
        slabs.slab = fresh;
        slabs.slab_left = bytes;
        slabs.slabs_bytes += bytes;
        skipped = 0;
    }
    slabs.slab += skipped;
    slabs.slab_left -= skipped;
    count = slabs.slab_left / size < MAGAZINE ? slabs.slab_left / size : MAGAZINE;
    for (size_t i = 0; i < count; i++)
        magazine->nodes[count - 1 - i] = slabs.slab + size * i;
    slabs.slab += size * count;
    slabs.slab_left -= size * count;
    slabs_leave();
    magazine->count = count;
    return magazine;
}

/* What will be taken some nodes later is asked for now: to be written, memory has to come as well. */
static void *store_take(struct store *store, size_t size)
{
    enum { AHEAD = 20 };
    size_t class = class_of(size);
    struct magazine *open, *coming;
    if (allocation_fails())
        return NULL;
    if (!P2L_SLABS || size > SLAB_SIZE_MAX)
        return malloc(size);
    if (store->full[class] == NULL && (store->open[class] == NULL || store->open[class]->count <= AHEAD)) {
        store->full[class] = store->last[class] = magazine_get(class);
        if (store->full[class] != NULL)
            store->full[class]->next = NULL;
    }
    open = store->open[class];
    if (open == NULL || open->count == 0) {
        struct magazine *full = store->full[class];
        if (full == NULL)
            return NULL;
        store->full[class] = full->next;
        free(open);
        store->open[class] = open = full;
    }
    coming = open->count > AHEAD ? open : store->full[class];
    if (coming != NULL) {
        size_t at = coming == open ? open->count - AHEAD : coming->count + open->count - AHEAD;
        if (at - 1 < coming->count)
            for (size_t line = 0; line < size; line += LINE)
                __builtin_prefetch((uint8_t *)coming->nodes[at - 1] + line, 1);
    }
    return open->nodes[--open->count];
}

static void store_put(struct store *store, void *memory, size_t size)
{
    size_t class = class_of(size);
    struct magazine *open;
    if (!P2L_SLABS || size > SLAB_SIZE_MAX) {
        free(memory);
        return;
    }
    open = store->open[class];
    if (open == NULL || open->count == MAGAZINE) {
        struct magazine *fresh = malloc(sizeof *fresh);
        if (fresh == NULL)
            return; /* without memory for a list the node is lost: better than failing to give memory back */
        if (open != NULL) {
            if (store->full[class] == NULL)
                store->last[class] = open;
            open->next = store->full[class];
            store->full[class] = open;
        }
        fresh->count = 0;
        store->open[class] = open = fresh;
    }
    open->nodes[open->count++] = memory;
}

/* Gives everything in the store to all. */
static void store_empty(struct store *store)
{
    for (size_t class = 0; class < CLASSES; class++) {
        struct magazine *open = store->open[class];
        store->open[class] = NULL;
        if (open != NULL && open->count == 0) {
            free(open);
        } else if (open != NULL) {
            if (store->full[class] == NULL)
                store->last[class] = open;
            open->next = store->full[class];
            store->full[class] = open;
        }
    }
    slabs_enter();
    for (size_t class = 0; class < CLASSES; class++)
        if (store->full[class] != NULL) {
            store->last[class]->next = slabs.full[class];
            slabs.full[class] = store->full[class];
            store->full[class] = NULL;
        }
    slabs_leave();
}

struct p2l_state {
    struct p2l_node *tops[P2L_TABLES];
    uint64_t counts[P2L_TABLES];
    uint8_t widths[P2L_TABLES];
    struct store store;
};

/* Nodes --------------------------------------------------------------------------------------------------------- */

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

static inline size_t leaf_size(size_t width, size_t value_size)
{
    return offsetof(struct leaf, bytes) + width + value_size;
}

static void node_free(struct store *store, struct p2l_node *node)
{
    store_put(store, node,
              is_leaf(node) ? leaf_size(leaf_width(as_leaf(node)), as_leaf(node)->value_size) : sizeof(struct fork));
}

static struct p2l_node *leaf_new(struct p2l_state *state, unsigned table, const uint8_t *key, const uint8_t *value,
                                 size_t size)
{
    size_t width = state->widths[table];
    struct leaf *leaf = store_take(&state->store, leaf_size(width, size));
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

static inline void node_retain(struct p2l_node *node)
{
    atomic_fetch_add_explicit(&node->references, 1, memory_order_relaxed);
}

static inline int node_unreferenced(struct p2l_node *node)
{
    return atomic_fetch_sub_explicit(&node->references, 1, memory_order_acq_rel) == 1;
}

static inline int node_shared(struct p2l_node *node)
{
    return atomic_load_explicit(&node->references, memory_order_acquire) != 1;
}

/* Gives up one reference, and frees what nobody holds then. Dead forks wait in a list through themselves. Far
 * children take long to come from memory: they are asked for some forks before they are counted down. */
static void node_release(struct store *store, struct p2l_node *node)
{
    enum { AHEAD = 8 };
    struct fork *coming[AHEAD] = {NULL};
    struct p2l_node *waiting = NULL;
    size_t at = 0, underway = 0;

    if (!node_unreferenced(node))
        return;
    if (is_leaf(node)) {
        node_free(store, node);
        return;
    }
    as_fork(node)->waiting = NULL;
    waiting = node;
    while (waiting != NULL || underway > 0) {
        struct fork *due = coming[at];
        coming[at] = NULL;
        if (waiting != NULL) {
            struct fork *fork = as_fork(waiting);
            waiting = fork->waiting;
            __builtin_prefetch(fork->child[0], 1);
            __builtin_prefetch(fork->child[1], 1);
            coming[at] = fork;
            underway++;
        }
        at = (at + 1) % AHEAD;
        if (due == NULL)
            continue;
        underway--;
        for (int side = 0; side < 2; side++) {
            struct p2l_node *child = due->child[side];
            if (!node_unreferenced(child))
                continue;
            if (is_leaf(child)) {
                node_free(store, child);
                continue;
            }
            as_fork(child)->waiting = waiting;
            waiting = child;
        }
        store_put(store, due, sizeof *due);
    }
}

/* An own fork like this one, which is shared. It is going to change, so it has no hash. */
static struct fork *fork_copy(struct p2l_state *state, const struct fork *fork)
{
    struct fork *copy = store_take(&state->store, sizeof *copy);
    if (copy == NULL)
        return NULL;
    atomic_init(&copy->node.references, 1);
    copy->node.mark = fork->node.mark;
    copy->node.hashed = 0;
    copy->node.table = 0;
    memcpy(copy->child, fork->child, sizeof copy->child);
    return copy;
}

/* Makes the fork in the slot, which is reached over own forks only, an own one that is going to change. */
static struct fork *fork_own(struct p2l_state *state, struct p2l_node **slot)
{
    struct p2l_node *node = *slot;
    if (node_shared(node)) {
        struct fork *copy = fork_copy(state, as_fork(node));
        if (copy == NULL)
            return NULL;
        for (int side = 0; side < 2; side++)
            node_retain(copy->child[side]);
        *slot = &copy->node;
        node_release(&state->store, node);
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
    memcpy(branch, state, offsetof(struct p2l_state, store));
    memset(&branch->store, 0, sizeof branch->store);
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
            node_release(&state->store, state->tops[table]);
    store_empty(&state->store);
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

/* The key is not there; `nearest` is the leaf at which its path ends. */
static int insert(struct p2l_state *state, unsigned table, const uint8_t *key, const uint8_t *value, size_t size,
                  const struct leaf *nearest)
{
    int difference = first_difference(nearest->bytes, key, state->widths[table]), side;
    struct p2l_node **slot = &state->tops[table], *fresh = leaf_new(state, table, key, value, size);
    struct fork *fork = fresh == NULL ? NULL : store_take(&state->store, sizeof *fork);

    if (fork == NULL) {
        if (fresh != NULL)
            node_free(&state->store, fresh);
        return P2L_NO_MEMORY;
    }
    while (!is_leaf(*slot) && (*slot)->mark < difference) {
        struct fork *own = fork_own(state, slot);
        if (own == NULL) {
            /* The copies made so far hold the same rows; only their hashes will be computed again. */
            node_free(&state->store, fresh);
            store_put(&state->store, fork, sizeof *fork);
            return P2L_NO_MEMORY;
        }
        slot = &own->child[key_bit(key, own->node.mark)];
    }
    side = key_bit(key, (unsigned)difference);
    atomic_init(&fork->node.references, 1);
    fork->node.mark = (uint16_t)difference;
    fork->node.hashed = 0;
    fork->node.table = 0;
    fork->child[side] = fresh;
    fork->child[!side] = *slot;
    *slot = &fork->node;
    state->counts[table]++;
    return P2L_OK;
}

/* Gives the leaf in the slot, reached over own forks only, another value. */
static int leaf_change(struct p2l_state *state, unsigned table, struct p2l_node **slot, const uint8_t *value,
                       size_t size)
{
    struct leaf *leaf = as_leaf(*slot);
    size_t width = state->widths[table];
    struct p2l_node *fresh;
    if (leaf->value_size == size && !node_shared(*slot)) {
        if (size > 0)
            memcpy(leaf->bytes + width, value, size);
        leaf->node.hashed = 0;
        return P2L_OK;
    }
    fresh = leaf_new(state, table, leaf->bytes, value, size);
    if (fresh == NULL)
        return P2L_NO_MEMORY;
    node_release(&state->store, *slot);
    *slot = fresh;
    return P2L_OK;
}

int p2l_state_put(struct p2l_state *state, unsigned table, const uint8_t *key, const uint8_t *value, size_t size)
{
    size_t width = state->widths[table];
    struct p2l_node **slot = &state->tops[table];
    const struct leaf *nearest;

    if (*slot == NULL) {
        *slot = leaf_new(state, table, key, value, size);
        if (*slot == NULL)
            return P2L_NO_MEMORY;
        state->counts[table] = 1;
        return P2L_OK;
    }
    nearest = nearest_leaf(*slot, key);
    if (memcmp(nearest->bytes, key, width) != 0)
        return insert(state, table, key, value, size, nearest);
    if (nearest->value_size == size && (size == 0 || memcmp(nearest->bytes + width, value, size) == 0))
        return P2L_OK;
    while (!is_leaf(*slot)) {
        struct fork *own = fork_own(state, slot);
        if (own == NULL)
            return P2L_NO_MEMORY;
        slot = &own->child[key_bit(key, own->node.mark)];
    }
    return leaf_change(state, table, slot, value, size);
}

/* Many rows at once --------------------------------------------------------------------------------------------- */

/* In a large table nearly every step of a path waits for memory. Many paths are walked a step at a time in turns, and
 * each node is asked for one turn before it is looked at. */
void p2l_state_search(const struct p2l_state *state, unsigned table, struct p2l_search *searches, size_t count)
{
    size_t width = state->widths[table], walking = count;
    for (size_t i = 0; i < count; i++) {
        searches[i].node = state->tops[table];
        searches[i].value.data = NULL;
        searches[i].value.size = 0;
    }
    if (state->tops[table] == NULL)
        return;
    while (walking > 0) {
        walking = 0;
        for (size_t i = 0; i < count; i++) {
            const struct p2l_node *node = searches[i].node;
            if (is_leaf(node))
                continue;
            node = as_fork(node)->child[key_bit(searches[i].key, node->mark)];
            __builtin_prefetch(node);
            searches[i].node = node;
            walking++;
        }
    }
    for (size_t i = 0; i < count; i++) {
        const struct leaf *leaf = as_leaf(searches[i].node);
        if (i + 8 < count)
            __builtin_prefetch((const uint8_t *)searches[i + 8].node + 64);
        if (memcmp(leaf->bytes, searches[i].key, width) == 0)
            searches[i].value = (struct p2l_span){leaf->bytes + width, leaf->value_size};
    }
}

/* One change on its way down. `window` holds 64 bits of its key, from a byte on that its group knows. */
struct item {
    uint64_t window;
    uint32_t change;
};

/* The changes that go through one child of a fork: those from `begin` until `end`. If it is borrowed, the fork holds no
 * reference to it; what does is the fork of which that fork is a copy. */
struct group {
    struct fork *above;
    struct p2l_node *node; /* the child */
    uint32_t begin, end;
    uint16_t window_at;
    uint8_t side, borrowed;
};

static uint64_t key_window(const uint8_t *key, size_t width, size_t at)
{
    uint8_t bytes[8] = {0};
    memcpy(bytes, key + at, width - at < 8 ? width - at : 8);
    return (uint64_t)p2l_load32(bytes) << 32 | p2l_load32(bytes + 4);
}

/* Those with bit 0 first; returns where those with bit 1 begin. Without branches: the bits are random. */
static uint32_t items_part(struct item *items, uint32_t begin, uint32_t end, unsigned bit)
{
    uint32_t middle = begin;
    for (uint32_t i = begin; i < end; i++) {
        struct item item = items[i];
        items[i] = items[middle];
        items[middle] = item;
        middle += !(item.window >> (63 - bit) & 1);
    }
    return middle;
}

/* References to be taken. An atomic instruction waits until all that was written before it has arrived in memory, so
 * they are taken in runs, apart from the copying. */
enum { RETAINS = 64 };
struct retains {
    size_t count;
    struct p2l_node *nodes[RETAINS];
};

static void retains_do(struct retains *retains)
{
    for (size_t i = 0; i < retains->count; i++)
        node_retain(retains->nodes[i]);
    retains->count = 0;
}

/* What was written below one node, as it is hashed: leaves, and forks level by level from the top. If there is no room for
 * all forks, or a neighbour of one has no hash itself, the forks are left to p2l_state_hash. */
enum { SUBTREE = 256, TRAIL_FORKS = 20 * SUBTREE };
struct trail {
    struct p2l_message leaves[SUBTREE];
    struct p2l_node *forks[TRAIL_FORKS];
    size_t levels[P2L_DEPTH_MAX + 2]; /* where the forks of each level begin */
    size_t leaf_count, fork_count, level_count;
    int broken;
};

static struct p2l_message leaf_message(struct p2l_node *node);
static void forks_hash(struct p2l_node *const *forks, size_t count);

static void trail_hash(struct trail *trail, unsigned table)
{
    const uint8_t tag[2] = {0x02, (uint8_t)table};
    p2l_sha256_messages(tag, 2, trail->leaves, trail->leaf_count);
    if (trail->broken)
        return;
    trail->levels[trail->level_count] = trail->fork_count;
    for (size_t level = trail->level_count; level-- > 0;)
        forks_hash(trail->forks + trail->levels[level], trail->levels[level + 1] - trail->levels[level]);
}

/* All paths go down together, level by level, so every fork is met and copied once, and what comes next can be asked
 * for ahead of time. A copy takes references to those children only that stay as they are; the others it borrows until
 * their own copies take their places. What is borrowed lives because the topmost copied nodes (`replaced`) are not
 * released before the end. */
struct walk {
    struct p2l_state *state;
    unsigned table;
    const struct p2l_change *changes;
    struct item *items;
    struct group *groups, *following; /* of this level and of the next */
    size_t group_count;
    struct p2l_node **replaced;
    size_t replaced_count;
    struct retains retains;
    struct trail *trail;
};

/* What is still borrowed is held from here on. */
static void groups_retain(const struct group *groups, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (groups[i].borrowed)
            node_retain(groups[i].node);
}

/* Goes down until no group has more than `most` changes; with 0 to the leaves. */
static int walk_down(struct walk *walk, uint32_t most)
{
    enum { AHEAD = 10 };
    struct p2l_state *state = walk->state;
    struct item *items = walk->items;
    size_t width = state->widths[walk->table];
    struct trail *trail = walk->trail;

    for (int finished = 0; !finished;) {
        struct group *groups = walk->groups, *following = walk->following;
        size_t count = walk->group_count, next = 0, at = 0;
        finished = 1;
        if (trail != NULL)
            trail->levels[trail->level_count++] = trail->fork_count;
        for (; at < count; at++) {
            struct group *here = &groups[at];
            struct p2l_node **slot = &here->above->child[here->side];
            struct fork *fork = as_fork(here->node);
            uint32_t middle;
            unsigned bit;
            int copied;

            if (at + AHEAD < count) {
                const struct group *coming = &groups[at + AHEAD];
                __builtin_prefetch(coming->node, 1);
                __builtin_prefetch(&coming->above->child[coming->side], 1);
                coming -= AHEAD / 2;
                if (is_leaf(coming->node))
                    __builtin_prefetch((const uint8_t *)coming->node + LINE);
            }
            if (is_leaf(here->node)) {
                const struct p2l_change *change = &walk->changes[items[here->begin].change];
                if (!here->borrowed) {
                    if (leaf_change(state, walk->table, slot, change->value, change->size) != P2L_OK)
                        break;
                } else {
                    const uint8_t *key = as_leaf(here->node)->bytes; /* that of the change, but near */
                    struct p2l_node *fresh = leaf_new(state, walk->table, key, change->value, change->size);
                    if (fresh == NULL)
                        break;
                    *slot = fresh;
                }
                if (trail != NULL)
                    trail->leaves[trail->leaf_count++] = leaf_message(*slot);
                continue;
            }
            copied = here->borrowed || node_shared(here->node);
            if (copied) {
                fork = fork_copy(state, fork);
                if (fork == NULL)
                    break;
                if (!here->borrowed)
                    walk->replaced[walk->replaced_count++] = here->node;
                *slot = &fork->node;
            }
            fork->node.hashed = 0;
            if (trail != NULL && trail->fork_count < TRAIL_FORKS)
                trail->forks[trail->fork_count++] = &fork->node;
            else if (trail != NULL)
                trail->broken = 1;
            bit = fork->node.mark;
            if (bit >= 8u * here->window_at + 64) {
                here->window_at = (uint16_t)(bit / 8);
                for (uint32_t i = here->begin; i < here->end; i++)
                    items[i].window = key_window(walk->changes[items[i].change].key, width, here->window_at);
            }
            middle = items_part(items, here->begin, here->end, bit - 8u * here->window_at);
            for (unsigned side = 0; side < 2; side++) {
                uint32_t begin = side ? middle : here->begin, end = side ? here->end : middle;
                if (begin < end) {
                    following[next++] = (struct group){fork, fork->child[side], begin, end, here->window_at,
                                                       (uint8_t)side, (uint8_t)copied};
                    finished &= end - begin <= most;
                } else if (copied) {
                    if (walk->retains.count == RETAINS)
                        retains_do(&walk->retains);
                    __builtin_prefetch(fork->child[side], 1);
                    walk->retains.nodes[walk->retains.count++] = fork->child[side];
                } else if (trail != NULL && !fork->child[side]->hashed) {
                    trail->broken = 1; /* not so below copies: what was shared has all hashes */
                }
            }
        }
        if (at < count) {
            groups_retain(groups + at, count - at);
            groups_retain(following, next);
            return P2L_NO_MEMORY;
        }
        walk->groups = following;
        walk->following = groups;
        walk->group_count = next;
        if (next == 0)
            break;
    }
    return P2L_OK;
}

/* The changes of a group lie anywhere in their list. */
static void changes_ask(const struct walk *walk, const struct group *group)
{
    for (uint32_t i = group->begin; i < group->end; i++)
        __builtin_prefetch(&walk->changes[walk->items[i].change]);
    for (uint32_t i = group->begin; i < group->end; i++)
        __builtin_prefetch(walk->changes[walk->items[i].change].value);
}

/* The tops of the paths first, then subtree by subtree. Each is hashed at once, as long as it is in the caches. */
int p2l_state_change(struct p2l_state *state, unsigned table, const struct p2l_change *changes, size_t count)
{
    struct walk walk = {.state = state, .table = table, .changes = changes};
    struct trail *trail = NULL;
    struct group *memory[2], *subtrees;
    struct fork top;
    size_t subtree_count;
    int status = P2L_NO_MEMORY;

    if (count == 0)
        return P2L_OK;
    walk.items = p2l_allocate(count * sizeof *walk.items);
    walk.groups = memory[0] = p2l_allocate(count * sizeof *walk.groups);
    walk.following = memory[1] = p2l_allocate(count * sizeof *walk.following);
    walk.replaced = p2l_allocate(count * sizeof *walk.replaced);
    subtrees = p2l_allocate(count * sizeof *subtrees);
    if (walk.items == NULL || walk.groups == NULL || walk.following == NULL || walk.replaced == NULL ||
        subtrees == NULL)
        goto out;
    for (size_t i = 0; i < count; i++)
        walk.items[i] = (struct item){key_window(changes[i].key, state->widths[table], 0), (uint32_t)i};
    memset(&top, 0, sizeof top);
    top.child[0] = state->tops[table];
    walk.groups[0] = (struct group){&top, top.child[0], 0, (uint32_t)count, 0, 0, 0};
    walk.group_count = 1;

    status = walk_down(&walk, SUBTREE);
    subtree_count = status == P2L_OK ? walk.group_count : 0;
    memcpy(subtrees, walk.groups, subtree_count * sizeof *subtrees);
    if (subtree_count > 1)
        walk.trail = trail = p2l_allocate(sizeof *trail); /* without it they are hashed later */
    for (size_t i = 0; i < subtree_count; i++) {
        walk.groups[0] = subtrees[i];
        walk.group_count = 1;
        changes_ask(&walk, &subtrees[i]);
        if (trail != NULL) {
            trail->leaf_count = trail->fork_count = trail->level_count = 0;
            trail->broken = 0;
        }
        status = walk_down(&walk, 0);
        if (status != P2L_OK) {
            groups_retain(subtrees + i + 1, subtree_count - i - 1);
            break;
        }
        if (trail != NULL)
            trail_hash(trail, table);
    }
    state->tops[table] = top.child[0];
    retains_do(&walk.retains);
    for (size_t i = 0; i < walk.replaced_count; i++)
        node_release(&state->store, walk.replaced[i]);
out:
    free(walk.items);
    free(memory[0]);
    free(memory[1]);
    free(walk.replaced);
    free(subtrees);
    free(trail);
    return status;
}

/* One by one, but in the order of their keys, roughly: so the path of each is still in the caches from the one before. */
int p2l_state_insert_all(struct p2l_state *state, unsigned table, const struct p2l_change *rows, size_t count)
{
    enum { BUCKETS = 1 << 12 };
    size_t width = state->widths[table], first = 8 * width;
    uint32_t *order, starts[BUCKETS + 1] = {0};
    int status = P2L_OK;

    order = count > 1 ? p2l_allocate(count * sizeof *order) : NULL;
    if (order != NULL) {
        for (size_t i = 1; i < count; i++) {
            int difference = first_difference(rows[0].key, rows[i].key, width);
            if (difference >= 0 && (size_t)difference < first)
                first = (size_t)difference;
        }
        first /= 8;
        for (size_t i = 0; i < count; i++)
            starts[(key_window(rows[i].key, width, first) >> 52) + 1]++;
        for (size_t k = 0; k < BUCKETS; k++)
            starts[k + 1] += starts[k];
        for (size_t i = 0; i < count; i++)
            order[starts[key_window(rows[i].key, width, first) >> 52]++] = (uint32_t)i;
    }
    for (size_t i = 0; i < count && status == P2L_OK; i++) {
        const struct p2l_change *row = &rows[order != NULL ? order[i] : i];
        if (state->tops[table] == NULL)
            status = p2l_state_put(state, table, row->key, row->value, row->size);
        else
            status = insert(state, table, row->key, row->value, row->size, nearest_leaf(state->tops[table], row->key));
    }
    free(order);
    return status;
}

/* Takes the own fork in the slot away, with the child of that side; its other child takes its place. */
static void fork_remove(struct p2l_state *state, struct p2l_node **slot, int side)
{
    struct fork *fork = as_fork(*slot);
    *slot = fork->child[!side];
    node_release(&state->store, fork->child[side]);
    store_put(&state->store, fork, sizeof *fork);
}

/* Takes away the subtree that hangs where the path of `key` leads through the forks below bit `until`. */
static int subtree_remove(struct p2l_state *state, unsigned table, const uint8_t *key, unsigned until)
{
    struct p2l_node **slot = &state->tops[table], **above = NULL;
    int side = 0;
    while (!is_leaf(*slot) && (*slot)->mark < until) {
        struct fork *own = fork_own(state, slot);
        if (own == NULL)
            return P2L_NO_MEMORY;
        above = slot;
        side = key_bit(key, own->node.mark);
        slot = &own->child[side];
    }
    if (above == NULL) {
        node_release(&state->store, *slot);
        *slot = NULL;
    } else {
        fork_remove(state, above, side);
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
        struct fork *own = fork_own(state, slot);
        if (own == NULL) {
            state->counts[table] -= *deleted;
            return P2L_NO_MEMORY;
        }
        if (key_bit(bound, own->node.mark)) {
            *deleted += leaves_count(own->child[0]);
            fork_remove(state, slot, 0);
        } else {
            above = slot;
            slot = &own->child[0];
        }
    }
    /* The keys that are left here agree with the bound up to where they all differ from it, or are the bound. */
    if (difference >= 0 && key_bit(bound, (unsigned)difference)) {
        *deleted += leaves_count(*slot);
        if (above == NULL) {
            node_release(&state->store, *slot);
            *slot = NULL;
        } else {
            fork_remove(state, above, 0);
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

/* What is missing is found from the top down, level by level, and computed from the bottom up: leaves as they are found,
 * then the forks of each level side by side. */
struct gaps {
    struct p2l_node **list; /* level by level; NULL for a leaf whose hash is there or on its way */
    size_t count, capacity;
};

static int gaps_add(struct gaps *gaps, struct p2l_node *node)
{
    if (gaps->count == gaps->capacity) {
        size_t wanted = gaps->capacity > 0 ? 2 * gaps->capacity : 256;
        struct p2l_node **memory = p2l_reallocate(gaps->list, wanted * sizeof *memory);
        if (memory == NULL)
            return 0;
        gaps->list = memory;
        gaps->capacity = wanted;
    }
    gaps->list[gaps->count++] = node;
    return 1;
}

/* Hashes forks whose children have their hashes; NULL in the list is nothing. */
static void forks_hash(struct p2l_node *const *forks, size_t count)
{
    enum { AHEAD = 12, SOME = 128 };
    struct p2l_pair pairs[SOME];
    size_t some = 0;
    for (size_t i = 0; i < count; i++) {
        struct fork *fork = as_fork(forks[i]);
        if (i + AHEAD < count && forks[i + AHEAD] != NULL) {
            __builtin_prefetch(as_fork(forks[i + AHEAD])->child[0]->hash);
            __builtin_prefetch(as_fork(forks[i + AHEAD])->child[1]->hash);
        }
        if (fork == NULL)
            continue;
        pairs[some++] = (struct p2l_pair){fork->child[0]->hash, fork->child[1]->hash, fork->node.hash,
                                          0x030000u | fork->node.mark};
        fork->node.hashed = 1;
        if (some == SOME) {
            p2l_sha256_nodes(pairs, some, 3);
            some = 0;
        }
    }
    p2l_sha256_nodes(pairs, some, 3);
}

static struct p2l_message leaf_message(struct p2l_node *node)
{
    struct leaf *leaf = as_leaf(node);
    node->hashed = 1;
    return (struct p2l_message){leaf->bytes, leaf_width(leaf) + leaf->value_size, node->hash};
}

/* Fills all gaps from the top on. 0: no memory for the list of gaps; leaves may have got theirs. */
static int gaps_fill(struct p2l_node *top, unsigned table)
{
    enum { AHEAD = 12, MESSAGES = 256 };
    const uint8_t tag[2] = {0x02, (uint8_t)table};
    struct gaps gaps = {NULL, 0, 0};
    struct p2l_message messages[MESSAGES];
    size_t levels[P2L_DEPTH_MAX + 3], depth = 0, leaves = 0; /* levels: where the gaps below `depth` forks begin */
    int enough = gaps_add(&gaps, top);

    levels[0] = 0;
    levels[1] = gaps.count;
    while (enough && levels[depth] < levels[depth + 1]) {
        for (size_t at = levels[depth]; enough && at < levels[depth + 1]; at++) {
            struct p2l_node *node = gaps.list[at];
            if (at + AHEAD < levels[depth + 1]) {
                struct p2l_node *coming = gaps.list[at + AHEAD];
                if (!is_leaf(coming)) {
                    __builtin_prefetch(as_fork(coming)->child[0], 1);
                    __builtin_prefetch(as_fork(coming)->child[1], 1);
                }
            }
            if (is_leaf(node)) {
                messages[leaves++] = leaf_message(node);
                gaps.list[at] = NULL;
                if (leaves == MESSAGES) {
                    p2l_sha256_messages(tag, 2, messages, leaves);
                    leaves = 0;
                }
                continue;
            }
            for (unsigned side = 0; side < 2 && enough; side++)
                if (!as_fork(node)->child[side]->hashed)
                    enough = gaps_add(&gaps, as_fork(node)->child[side]);
        }
        depth++;
        levels[depth + 1] = gaps.count;
    }
    p2l_sha256_messages(tag, 2, messages, leaves);
    for (; enough && depth > 0; depth--)
        forks_hash(gaps.list + levels[depth - 1], levels[depth] - levels[depth - 1]);
    free(gaps.list);
    return enough;
}

/* The same one by one, for when there is no memory for a list. */
static void gaps_fill_one_by_one(struct p2l_node *top)
{
    struct p2l_node *waiting[P2L_DEPTH_MAX + 1];
    size_t depth = 0;
    waiting[depth++] = top;
    while (depth > 0) {
        struct p2l_node *node = waiting[depth - 1];
        if (is_leaf(node)) {
            struct leaf *leaf = as_leaf(node);
            size_t width = leaf_width(leaf);
            leaf_hash(node->table, leaf->bytes, width, leaf->bytes + width, leaf->value_size, node->hash);
        } else {
            struct p2l_node **child = as_fork(node)->child;
            if (!child[0]->hashed || !child[1]->hashed) {
                waiting[depth++] = child[child[0]->hashed];
                continue;
            }
            fork_hash(node->mark, child[0]->hash, child[1]->hash, node->hash);
        }
        node->hashed = 1;
        depth--;
    }
}

void p2l_state_hash(struct p2l_state *state)
{
    for (unsigned table = 0; table < P2L_TABLES; table++) {
        struct p2l_node *top = state->tops[table];
        if (top != NULL && !top->hashed && !gaps_fill(top, table))
            gaps_fill_one_by_one(top);
    }
    store_empty(&state->store);
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
