/* The bulk path: plain transactions (transfer, lock, release) by the rules of protocol.md, section 4.1, in order.
 *
 * A transaction reads and changes its holdings and locks in an overlay; only when all operations have succeeded is
 * the overlay written to the tree. So nothing has to be undone, and a transaction that turns out not to be for this
 * path has left no trace. The order of the checks is the protocol's; _reference.py says the same in Python. */

#include "internal.h"
#include "reasons.h"

#include <stdlib.h>

enum { ACCOUNTS = 1, ASSETS = 2, HOLDINGS = 3, LOCKS = 4, REPLAY = 8 };
enum { WHOLE_TRANSACTION = 65535 };

/* What judging one step can end with, besides a reason of its own (>= 0, P2L_REASON_OK being none). */
enum { UNDECIDED = -100 };

struct touched {
    uint64_t amounts[2]; /* of a holding: free, locked; of a lock: one amount, and 0 */
    uint8_t table;
    uint8_t key[80];
};

struct overlay {
    struct p2l_state *state;
    struct touched *rows;
    uint64_t *prints; /* of the keys, side by side: most misses are found without touching a row */
    size_t count, capacity;
};

struct operation {
    uint64_t number, amount;
    const uint8_t *account, *other, *asset; /* other: receiver, or controller */
};

static int overlay_reserve(struct overlay *overlay, size_t capacity)
{
    void *memory;
    if (capacity <= overlay->capacity)
        return 1;
    memory = p2l_reallocate(overlay->rows, capacity * sizeof *overlay->rows);
    if (memory == NULL)
        return 0;
    overlay->rows = memory;
    memory = p2l_reallocate(overlay->prints, capacity * sizeof *overlay->prints);
    if (memory == NULL)
        return 0;
    overlay->prints = memory;
    overlay->capacity = capacity;
    return 1;
}

static uint64_t key_print(unsigned table, const uint8_t *key, size_t width)
{
    uint64_t print = table;
    for (size_t i = 0; i < width; i += 8) {
        uint64_t word;
        memcpy(&word, key + i, 8);
        print = (print ^ word) * 0x9e3779b97f4a7c15u;
        print ^= print >> 29;
    }
    return print;
}

static struct p2l_reader reader_over(struct p2l_span span)
{
    return (struct p2l_reader){span.data, 0, span.size, 0, 0};
}

/* The row of a holding (asset, account) or a lock (asset, account, controller); NULL if it is not for this path. */
static struct touched *overlay_row(struct overlay *overlay, unsigned table, const uint8_t *asset,
                                   const uint8_t *account, const uint8_t *controller)
{
    uint8_t key[80] = {0};
    size_t width = table == HOLDINGS ? 48 : 80;
    struct p2l_span value;
    struct touched *row;
    uint64_t print;

    memcpy(key, asset, 16);
    memcpy(key + 16, account, 32);
    if (table == LOCKS)
        memcpy(key + 48, controller, 32);
    print = key_print(table, key, width);
    for (size_t i = 0; i < overlay->count; i++) {
        row = &overlay->rows[i];
        if (overlay->prints[i] == print && row->table == table && memcmp(row->key, key, sizeof key) == 0)
            return row;
    }
    row = &overlay->rows[overlay->count];
    row->amounts[0] = row->amounts[1] = 0;
    if (p2l_state_get(overlay->state, table, key, &value)) {
        struct p2l_reader reader = reader_over(value);
        int amounts = table == HOLDINGS ? 2 : 1;
        if (!p2l_read_versioned(&reader, 1 + (uint64_t)amounts))
            return NULL;
        for (int i = 0; i < amounts; i++)
            if (!p2l_read_uint(&reader, &row->amounts[i]))
                return NULL;
        /* No state that grew by the rules breaks this sum; one that does is not for the bulk path. */
        if (reader.position != reader.end || row->amounts[0] > UINT64_MAX - row->amounts[1])
            return NULL;
    }
    row->table = (uint8_t)table;
    memcpy(row->key, key, sizeof key);
    overlay->prints[overlay->count++] = print;
    return row;
}

static int overlay_write(struct overlay *overlay)
{
    for (size_t i = 0; i < overlay->count; i++) {
        const struct touched *row = &overlay->rows[i];
        int amounts = row->table == HOLDINGS ? 2 : 1, status, found;
        if (row->amounts[0] == 0 && row->amounts[1] == 0) {
            status = p2l_state_delete(overlay->state, row->table, row->key, &found);
        } else {
            uint8_t value[2 + 2 * 9] = {(uint8_t)(0x91 + amounts), 1};
            size_t size = 2;
            for (int k = 0; k < amounts; k++)
                size += p2l_write_uint(value + size, row->amounts[k]);
            status = p2l_state_put(overlay->state, row->table, row->key, value, size);
        }
        if (status != P2L_OK)
            return status;
    }
    return P2L_OK;
}

/* The value of an account or asset whose head is `[1, 0 (flags), ...`; the reader stands behind the flags. */
static int check_row(const struct p2l_state *state, unsigned table, const uint8_t *key, int unknown,
                     struct p2l_reader *reader)
{
    struct p2l_span value;
    uint64_t flags;
    if (!p2l_state_get(state, table, key, &value))
        return unknown;
    *reader = reader_over(value);
    if (!p2l_read_versioned(reader, table == ACCOUNTS ? 3 : 8) || !p2l_read_uint(reader, &flags) || flags != 0)
        return UNDECIDED;
    return P2L_REASON_OK;
}

static int check_account(const struct p2l_state *state, const uint8_t *account)
{
    struct p2l_reader reader;
    return check_row(state, ACCOUNTS, account, P2L_REASON_UNKNOWN_ACCOUNT, &reader);
}

static int check_asset(const struct p2l_state *state, const uint8_t *asset)
{
    struct p2l_reader reader;
    return check_row(state, ASSETS, asset, P2L_REASON_UNKNOWN_ASSET, &reader);
}

/* Rule 4 for one account. Keys and signers ascend, so one walk over both finds the common ones. */
static int check_authority(const struct p2l_state *state, const uint8_t *account, const uint8_t *signers,
                           size_t signer_count)
{
    struct p2l_reader reader;
    struct p2l_policy policy;
    uint64_t weight = 0;
    size_t signer = 0;
    int reason = check_row(state, ACCOUNTS, account, P2L_REASON_UNKNOWN_ACCOUNT, &reader);
    if (reason != P2L_REASON_OK)
        return reason;
    if (!p2l_read_policy(&reader, &policy) || reader.position != reader.end)
        return UNDECIDED;
    for (size_t i = 0; i < policy.count; i++) {
        while (signer < signer_count && memcmp(signers + 32 * signer, policy.keys[i], 32) < 0)
            signer++;
        if (signer < signer_count && memcmp(signers + 32 * signer, policy.keys[i], 32) == 0)
            weight += policy.weights[i]; /* at most 16 weights below 2^32 */
    }
    return weight >= policy.threshold ? P2L_REASON_OK : P2L_REASON_UNAUTHORISED;
}

/* Rule 5 for one operation. */
static int apply(struct overlay *overlay, const struct operation *operation)
{
    const struct p2l_state *state = overlay->state;
    const uint8_t *account = operation->account, *other = operation->other, *asset = operation->asset;
    uint64_t amount = operation->amount;
    struct touched *source, *target, *lock; /* room was reserved: they stay where they are */
    int reason;

    if (amount == 0)
        return P2L_REASON_ZERO_AMOUNT;
    if (operation->number != 3) {
        if (memcmp(account, other, 32) == 0)
            return P2L_REASON_SAME_ACCOUNT;
        reason = check_account(state, other);
        if (reason != P2L_REASON_OK)
            return reason;
    }
    reason = check_asset(state, asset);
    if (reason != P2L_REASON_OK)
        return reason;

    if (operation->number == 3) {
        lock = overlay_row(overlay, LOCKS, asset, account, other);
        if (lock == NULL)
            return UNDECIDED;
        if (lock->amounts[0] < amount)
            return P2L_REASON_INSUFFICIENT_LOCKED;
        source = overlay_row(overlay, HOLDINGS, asset, account, NULL);
        if (source == NULL || source->amounts[1] < amount)
            return UNDECIDED;
        lock->amounts[0] -= amount;
        source->amounts[1] -= amount;
        source->amounts[0] += amount;
        return P2L_REASON_OK;
    }

    source = overlay_row(overlay, HOLDINGS, asset, account, NULL);
    if (source == NULL)
        return UNDECIDED;
    if (source->amounts[0] < amount)
        return P2L_REASON_INSUFFICIENT_FREE;
    if (operation->number == 1) {
        target = overlay_row(overlay, HOLDINGS, asset, other, NULL);
        if (target == NULL)
            return UNDECIDED;
        if (target->amounts[0] + target->amounts[1] > UINT64_MAX - amount)
            return P2L_REASON_OVERFLOW;
        source->amounts[0] -= amount;
        target->amounts[0] += amount;
        return P2L_REASON_OK;
    }
    lock = overlay_row(overlay, LOCKS, asset, account, other);
    if (lock == NULL || lock->amounts[0] > UINT64_MAX - amount)
        return UNDECIDED;
    source->amounts[0] -= amount;
    source->amounts[1] += amount;
    lock->amounts[0] += amount;
    return P2L_REASON_OK;
}

/* The scan has checked these bytes; a read that fails can only mean that they are not the scanned ones. */
static int next_operation(struct p2l_reader *reader, struct operation *operation)
{
    if (!p2l_read_fields(reader, 5) || !p2l_read_uint(reader, &operation->number) ||
        !p2l_read_bytes(reader, 32, &operation->account))
        return 0;
    if (operation->number == 1)
        return p2l_read_bytes(reader, 32, &operation->other) && p2l_read_bytes(reader, 16, &operation->asset) &&
               p2l_read_uint(reader, &operation->amount);
    return p2l_read_bytes(reader, 16, &operation->asset) && p2l_read_uint(reader, &operation->amount) &&
           p2l_read_bytes(reader, 32, &operation->other);
}

static void decide(uint8_t code[4], int reason, unsigned operation)
{
    code[0] = (uint8_t)(reason >> 8);
    code[1] = (uint8_t)reason;
    code[2] = (uint8_t)(operation >> 8);
    code[3] = (uint8_t)operation;
}

/* One plain transaction. P2L_OK: decided, and its code written. */
static int execute_one(struct overlay *overlay, const struct p2l_columns *columns, size_t index, uint64_t height,
                       uint64_t replay_window, uint64_t fee, uint8_t code[4])
{
    const struct p2l_row *row = &columns->rows[index];
    const uint8_t *signers = columns->public_keys + 32 * (size_t)row->first_signature;
    struct p2l_state *state = overlay->state;
    struct p2l_reader operations = {columns->data, row->operations_at, row->end, 0, 0};
    struct p2l_reader again = operations;
    struct operation operation;
    struct p2l_span value;
    uint8_t replay_key[40], remembered[2 + 9 + 3 + 3];
    size_t size;
    int reason, status;
    uint32_t i;

    /* Rules 1 to 3 */
    p2l_store64(replay_key, row->valid_until);
    memcpy(replay_key + 8, columns->ids + 32 * index, 32);
    if (row->valid_until < height)
        reason = P2L_REASON_EXPIRED;
    else if (row->valid_until - height > replay_window)
        reason = P2L_REASON_TOO_FAR_AHEAD;
    else if (p2l_state_get(state, REPLAY, replay_key, &value))
        reason = P2L_REASON_DUPLICATE;
    else if (fee > row->max_fee)
        reason = P2L_REASON_FEE_TOO_LOW;
    else /* Rule 4: the payer of the fee, then the debited side of every operation */
        reason = check_authority(state, columns->data + row->fee_payer_at, signers, row->signature_count);
    if (reason == UNDECIDED)
        return UNDECIDED;
    if (reason != P2L_REASON_OK) {
        decide(code, reason, WHOLE_TRANSACTION);
        return P2L_OK;
    }
    for (i = 0; i < row->operation_count; i++) {
        if (!next_operation(&operations, &operation))
            return UNDECIDED;
        reason = check_authority(state, operation.number == 3 ? operation.other : operation.account, signers,
                                 row->signature_count);
        if (reason == UNDECIDED)
            return UNDECIDED;
        if (reason != P2L_REASON_OK) {
            decide(code, reason, i);
            return P2L_OK;
        }
    }

    /* Rule 5. From here on the transaction is remembered, whether it succeeds or fails. */
    if (!overlay_reserve(overlay, 2 * (size_t)row->operation_count))
        return P2L_NO_MEMORY;
    overlay->count = 0;
    for (i = 0; i < row->operation_count; i++) {
        if (!next_operation(&again, &operation))
            return UNDECIDED;
        reason = apply(overlay, &operation);
        if (reason == UNDECIDED)
            return UNDECIDED;
        if (reason != P2L_REASON_OK)
            break;
    }
    if (reason == P2L_REASON_OK) {
        i = 0;
        status = overlay_write(overlay);
        if (status != P2L_OK)
            return status;
    }
    remembered[0] = 0x94;
    remembered[1] = 1;
    size = 2 + p2l_write_uint(remembered + 2, height);
    size += p2l_write_uint(remembered + size, (uint64_t)reason);
    size += p2l_write_uint(remembered + size, i);
    status = p2l_state_put(state, REPLAY, replay_key, remembered, size);
    if (status != P2L_OK)
        return status;
    decide(code, reason, i);
    return P2L_OK;
}

int p2l_execute(struct p2l_state *state, const struct p2l_columns *columns, size_t start, uint64_t height,
                uint64_t replay_window, uint64_t fee, uint8_t *codes, size_t *next)
{
    struct overlay overlay = {state, NULL, NULL, 0, 0};
    int status = P2L_OK;
    size_t i;
    if (p2l_state_width(state, ACCOUNTS) != 32 || p2l_state_width(state, ASSETS) != 16 ||
        p2l_state_width(state, HOLDINGS) != 48 || p2l_state_width(state, LOCKS) != 80 ||
        p2l_state_width(state, REPLAY) != 40)
        return P2L_WRONG_TABLES;
    for (i = start; i < columns->count && columns->rows[i].plain; i++) {
        status = execute_one(&overlay, columns, i, height, replay_window, fee, codes + 4 * i);
        if (status != P2L_OK)
            break;
    }
    free(overlay.rows);
    free(overlay.prints);
    *next = i;
    return status == UNDECIDED ? P2L_OK : status;
}
