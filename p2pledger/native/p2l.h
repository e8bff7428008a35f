/* What the binding (_core.pyx) may call. All functions are free of Python and of global state but for the CPU
 * level; all may run without the interpreter's lock. Sizes in, status out. Formats: docs/protocol.md. */

#ifndef P2L_H
#define P2L_H

#include <stddef.h>
#include <stdint.h>

enum {
    P2L_OK = 0,
    P2L_NO_MEMORY = -1,
    P2L_MALFORMED = -2,   /* the columns carry the code and the offset */
    P2L_WRONG_TABLES = -3 /* the state lacks the tables that execution needs */
};

/* Why bytes from outside are refused; the names stand in p2l_refusal_name(). */
enum {
    P2L_TRUNCATED = 1,
    P2L_TRAILING,
    P2L_NOT_CANONICAL,
    P2L_WRONG_TYPE,
    P2L_UNKNOWN_VERSION,
    P2L_WRONG_NETWORK,
    P2L_TOO_LARGE,
    P2L_TOO_MANY,
    P2L_UNKNOWN_OPERATION,
    P2L_BAD_FORM,
    P2L_SIGNATURES_UNSORTED,
    P2L_EMPTY
};
const char *p2l_refusal_name(int refusal);

enum { P2L_TABLES = 64, P2L_KEY_WIDTH_MAX = 128, P2L_DEPTH_MAX = 8 * P2L_KEY_WIDTH_MAX, P2L_TABLE_HEIGHT = 6 };

struct p2l_span {
    const uint8_t *data;
    size_t size;
};

/* CPU levels (dispatch.c). Index 0 is always "portable"; a level that this machine lacks cannot be set. */
size_t p2l_level_count(void);
const char *p2l_level_name(size_t index);
int p2l_level_available(size_t index);
size_t p2l_level_get(void);
int p2l_level_set(size_t index);
/* For tests: SHA-256 as it would run on another CPU of the level avx512: 1 without the SHA extensions, 2 with slow ones
 * beside AVX-512, 3 with fast ones; 0 ends it. 0 is returned if this CPU cannot. */
int p2l_hashing_force(int variant);
/* What compiled this, for reports. */
const char *p2l_compiler(void);

/* Hashing and RFC 9162 trees (sha256.c, merkle.c). */
void p2l_sha256_many(const struct p2l_span *messages, size_t count, uint8_t *hashes);
void p2l_sha256_tagged(const char tag[8], const uint8_t *data, size_t size, uint8_t hash[32]);
void p2l_merkle_leaves(const struct p2l_span *leaves, size_t count, uint8_t *hashes);
void p2l_merkle_root(const struct p2l_span *leaves, size_t count, uint8_t root[32]);
/* Consumes the count x 32 bytes of hashes; writes up to 64 x 32 bytes of path and returns its length in hashes. */
size_t p2l_merkle_path(uint8_t *hashes, size_t count, size_t index, uint8_t *path);
int p2l_merkle_verify(const uint8_t root[32], const uint8_t leaf_hash[32], uint64_t index, uint64_t size,
                      const uint8_t *path, size_t path_count);
/* Writes the receipt of at most P2L_RECEIPT_MAX bytes and returns its size. code: 4 bytes, as in p2l_execute. */
enum { P2L_RECEIPT_MAX = 42 };
size_t p2l_receipt_encode(const uint8_t id[32], const uint8_t code[4], uint8_t *receipt);
void p2l_receipts_root(const uint8_t *ids, const uint8_t *codes, size_t count, uint8_t root[32]);

/* Proof of work (pow.c): the first nonce of start .. start + count - 1 for which the double SHA-256 of prefix || nonce (8
 * bytes, big-endian) is at most the big-endian target. 1 if there is one. start + count must not exceed 2^64. */
int p2l_pow_search(const uint8_t *prefix, size_t size, uint64_t start, uint64_t count, const uint8_t target[32],
                   uint64_t *nonce);

/* SHA-512 of each message, count x 64 bytes (sha512.c). P2L_OK or P2L_NO_MEMORY. */
int p2l_sha512_many(const struct p2l_span *messages, size_t count, uint8_t *hashes);

/* Ed25519 under the rules of ZIP 215 (ed25519.c): flags[i] = whether signature i is valid. P2L_OK or P2L_NO_MEMORY.
 * Draws a seed from the operating system; it decides how verdicts are reached, never which. */
int p2l_ed25519_verify(const uint8_t *public_keys, const uint8_t *signatures, const struct p2l_span *messages,
                       size_t count, uint8_t *flags);
/* For tests: field operation number `operation` of the level in use, on 4 operands and with 2 results for each of at
 * most 8 lanes, five words each. Returns the number of lanes. */
enum { P2L_PROBE_OPERANDS = 4 * 8 * 5, P2L_PROBE_RESULTS = 2 * 8 * 5 };
int p2l_ed25519_probe(int operation, const uint64_t *operands, uint64_t *results);

/* The canonical scan (scan.c). */
struct p2l_limits {
    uint64_t transactions, operations, signatures, transaction_bytes, batch_signatures;
};

struct p2l_row {
    uint64_t valid_until, max_fee;
    uint32_t start, end; /* of the signed transaction in data */
    uint32_t body_at, body_end;
    uint32_t fee_payer_at, operations_at, operation_count;
    uint32_t first_signature, signature_count;
    uint32_t plain;
};

/* One row per transaction, and its signatures. `data` belongs to the caller and must outlive the columns. */
struct p2l_columns {
    const uint8_t *data;
    size_t size;
    struct p2l_row *rows;
    uint8_t *ids;
    size_t count, capacity;
    uint8_t *public_keys, *signatures;
    size_t signature_count, signature_capacity;
    uint64_t epoch, sequence;
    uint32_t maker_at, maker_signature_at;
    uint8_t digest[32];
    int refusal; /* after P2L_MALFORMED */
    size_t refusal_at;
};
void p2l_columns_init(struct p2l_columns *columns, const uint8_t *data, size_t size);
void p2l_columns_free(struct p2l_columns *columns);
int p2l_batch_scan(struct p2l_columns *columns, const uint8_t network[8], const struct p2l_limits *limits);
/* The RFC 9162 root over the signed transactions. */
void p2l_columns_root(const struct p2l_columns *columns, uint8_t root[32]);
/* Verifies all signatures of scanned columns together (verify.c). flags: 1 for the maker's, if there is one, then one for
 * each signature, then one for each transaction, which is 1 if those of all its signatures are. */
int p2l_columns_verify(const struct p2l_columns *columns, uint8_t *flags);
/* Judges each item of `data` (their sizes, in order) alone; refusals[i] is 0 for a good one, which gets a row. */
int p2l_transactions_scan(struct p2l_columns *columns, const size_t *sizes, size_t count, const uint8_t network[8],
                          const struct p2l_limits *limits, int *refusals);

/* The state tree (tree.c). A state is used by one thread at a time, or by many that only read. */
struct p2l_state;
struct p2l_node;
struct p2l_state *p2l_state_create(const uint8_t widths[P2L_TABLES]);
struct p2l_state *p2l_state_branch(const struct p2l_state *state);
void p2l_state_free(struct p2l_state *state);
unsigned p2l_state_width(const struct p2l_state *state, unsigned table);
uint64_t p2l_state_count(const struct p2l_state *state, unsigned table);
int p2l_state_get(const struct p2l_state *state, unsigned table, const uint8_t *key, struct p2l_span *value);
int p2l_state_put(struct p2l_state *state, unsigned table, const uint8_t *key, const uint8_t *value, size_t size);
/* Gives rows that are there (fewer than 2^32, no key twice) other values, all of them in one walk. */
struct p2l_change {
    const uint8_t *key, *value;
    size_t size;
};
int p2l_state_change(struct p2l_state *state, unsigned table, const struct p2l_change *changes, size_t count);
/* Puts rows that are not there (fewer than 2^32, no key twice). */
int p2l_state_insert_all(struct p2l_state *state, unsigned table, const struct p2l_change *rows, size_t count);
/* Finds the values of many keys; their data is NULL where there is no row. */
struct p2l_search {
    const uint8_t *key;
    struct p2l_span value;
    const struct p2l_node *node;
};
void p2l_state_search(const struct p2l_state *state, unsigned table, struct p2l_search *searches, size_t count);
int p2l_state_delete(struct p2l_state *state, unsigned table, const uint8_t *key, int *found);
int p2l_state_delete_prefix(struct p2l_state *state, unsigned table, const uint8_t *prefix, size_t size,
                            uint64_t *deleted);
int p2l_state_delete_below(struct p2l_state *state, unsigned table, const uint8_t *prefix, size_t size,
                           uint64_t *deleted);
/* Computes what hashes are missing. A state on which it was called last is safe for readers in all threads. */
void p2l_state_hash(struct p2l_state *state);
/* These three need p2l_state_hash before. */
void p2l_state_root(const struct p2l_state *state, uint8_t root[32]);
void p2l_state_table_root(const struct p2l_state *state, unsigned table, uint8_t root[32]);
struct p2l_proof {
    struct p2l_span leaf_key, leaf_value; /* data is NULL for an empty table */
    size_t path_count;
    uint16_t bits[P2L_DEPTH_MAX];
    uint8_t siblings[P2L_DEPTH_MAX][32];
    uint8_t tables[P2L_TABLE_HEIGHT][32];
};
void p2l_state_prove(const struct p2l_state *state, unsigned table, const uint8_t *key, struct p2l_proof *proof);
/* value.data NULL asks for absence. */
int p2l_state_verify(const uint8_t root[32], unsigned table, struct p2l_span key, struct p2l_span value,
                     const struct p2l_proof *proof);

struct p2l_cursor {
    const struct p2l_node *waiting[P2L_DEPTH_MAX + 1];
    size_t depth;
};
void p2l_cursor_open(struct p2l_cursor *cursor, const struct p2l_state *state, unsigned table,
                     const uint8_t *prefix, size_t prefix_size, const uint8_t *after);
int p2l_cursor_next(struct p2l_cursor *cursor, struct p2l_span *key, struct p2l_span *value);

/* For tests only: lets every allocation after the next `count` fail; a negative count ends it. */
void p2l_allocations_fail_after(int64_t count);

/* Executes plain transactions from index `start` (execute.c); *next is the first that it did not decide. `fee` is that
 * of one operation; *collected is what the payers paid. */
int p2l_execute(struct p2l_state *state, const struct p2l_columns *columns, size_t start, uint64_t height,
                uint64_t replay_window, uint64_t fee, uint8_t *codes, uint64_t *collected, size_t *next);

#endif
