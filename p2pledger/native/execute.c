/* The bulk path: executes plain transactions (transfer, lock, release) by the rules of protocol.md, section 4.1, in order.
 *
 * In a large state nearly every look at a row waits for memory, so transactions are taken in windows: what all of a
 * window will look at is searched for together (p2l_state_search), then they are executed one after another over what
 * was found. Accounts and assets do not change here. Holdings and locks change in the books, which hold each row that
 * was met in this call, and are written to the tree at the end, once each and together (p2l_state_change). So does the
 * native money of the payers where there are fees. Rows of REPLAY are new: they are kept in a memory of their own, where
 * later transactions find them, and go into the tree together as well.
 *
 * A transaction notes what the rows were before it changed them; one that fails, or turns out not to be for this path,
 * is taken back by these notes and leaves no trace in the books. The order of the checks is the protocol's;
 * _reference.py says the same in Python. */

#include "internal.h"
#include "reasons.h"

#include <stdlib.h>

enum { ACCOUNTS = 1, ASSETS = 2, HOLDINGS = 3, LOCKS = 4, REPLAY = 8, NATIVE = 9 };
enum { TRANSFER = 1, LOCK = 2, RELEASE = 3 };
enum { WHOLE_TRANSACTION = 65535 };

/* What judging one step can end with, besides a reason of its own (>= 0, P2L_REASON_OK being none). */
enum { UNDECIDED = -100 };

/* A holding, a lock, or native money. */
struct row {
    uint64_t amounts[2]; /* of a holding: free, locked; of the others: one amount, and 0 */
    uint64_t print;      /* of the key: most misses are found without comparing it */
    struct p2l_span value; /* in the tree */
    uint8_t table;
    uint8_t read;    /* whether the amounts have been read from the value */
    uint8_t changed; /* by a transaction that succeeded */
    uint8_t key[80];
};

/* Secret words for the prints of keys, as many as the longest key has. They are drawn for each call, so that nobody can
 * choose keys that meet in one slot; they decide where a row is looked for, never what is found. */
enum { SECRET_WORDS = 10 };

/* The rows, found by their keys: slots hold 1 + the number of a row, or 0. */
struct books {
    const uint64_t *secret;
    struct row *rows;
    size_t count, capacity, counts[NATIVE + 1]; /* counts: of each table */
    uint32_t *slots;
    size_t slot_count; /* a power of two, at least twice the capacity */
};

struct note {
    uint32_t row;
    uint64_t amounts[2];
};

struct operation {
    uint64_t number, amount;
    const uint8_t *account, *other, *asset; /* other: receiver, or controller */
    uint32_t account_at, other_at;          /* in the window's accounts */
    uint32_t source, target;                /* rows: the account's holding; the receiver's, or the lock */
};

/* One transaction of the window. */
struct step {
    size_t operations_at;
    uint32_t payer_at;  /* in the window's accounts */
    uint32_t payer_row; /* his native money; only where there are fees */
    uint8_t replay_key[40];
    uint8_t remembered; /* in the tree */
};

/* The rows of REPLAY that this call makes, found by the ids in their keys as the books' rows are by theirs. */
struct memory {
    const uint64_t *secret;
    struct remembered {
        uint8_t key[40], value[2 + 9 + 3 + 3], size; /* reasons and operations have 16 bits (Limits) */
    } *rows;
    size_t count, capacity;
    uint32_t *slots;
    size_t slot_count; /* a power of two, at least twice the capacity */
};

struct window {
    struct step *steps;
    size_t count;
    struct operation *operations;
    size_t operation_count, operation_capacity;
    struct p2l_search *accounts, *rows; /* room for 2 x operations + steps each */
    size_t account_count;
};

enum { STEPS_MAX = 64, OPERATIONS_MAX = 192 /* unless the first transaction alone has more */ };

/* Assets seen lately: a block is mostly about few. */
enum { SEEN = 16 };
struct seen {
    uint8_t asset[16];
    int known, reason;
};

struct execution {
    struct p2l_state *state;
    const struct p2l_columns *columns;
    uint64_t height, replay_window, fee /* of one operation */, collected, secret[SECRET_WORDS];
    struct books books;
    struct memory memory;
    struct window window;
    struct note *notes;
    size_t note_count;
    struct seen seen[SEEN];
};

/* Books --------------------------------------------------------------------------------------------------------- */

/* Two words of the key at a time, each hidden by one of the secret, are multiplied, and the products added up. */
static uint64_t key_print(const uint64_t secret[SECRET_WORDS], const uint8_t *key, size_t width)
{
    uint64_t low = width, high = 0;
    for (size_t i = 0; i < width / 8; i += 2) {
        uint64_t words[2];
        memcpy(words, key + 8 * i, sizeof words);
        low = p2l_multiply_add(words[0] ^ secret[i], words[1] ^ secret[i + 1], low, &high);
    }
    return low ^ high;
}

static size_t row_width(unsigned table)
{
    return table == HOLDINGS ? 48 : table == LOCKS ? 80 : 32;
}

static int books_reserve(struct books *books, size_t more)
{
    size_t capacity = books->capacity > 0 ? books->capacity : 128, slot_count;
    void *memory;
    if (books->count + more <= books->capacity)
        return 1;
    while (capacity < books->count + more)
        capacity *= 2;
    memory = p2l_reallocate(books->rows, capacity * sizeof *books->rows);
    if (memory == NULL)
        return 0;
    books->rows = memory;
    slot_count = 2 * capacity; /* of which at most half are taken */
    memory = p2l_allocate(slot_count * sizeof *books->slots);
    if (memory == NULL)
        return 0;
    free(books->slots);
    books->slots = memory;
    memset(books->slots, 0, slot_count * sizeof *books->slots);
    books->slot_count = slot_count;
    books->capacity = capacity;
    for (size_t i = 0; i < books->count; i++) {
        size_t slot = books->rows[i].print & (slot_count - 1);
        while (books->slots[slot] != 0)
            slot = (slot + 1) & (slot_count - 1);
        books->slots[slot] = (uint32_t)i + 1;
    }
    return 1;
}

/* The number of the row of a holding (asset, account), a lock (asset, account, controller), or native money (account).
 * Room was reserved. */
static uint32_t books_row(struct books *books, unsigned table, const uint8_t *asset, const uint8_t *account,
                          const uint8_t *controller)
{
    uint8_t key[80];
    size_t width = row_width(table), slot;
    struct row *row;
    uint64_t print;

    if (table == NATIVE) {
        memcpy(key, account, 32);
    } else {
        memcpy(key, asset, 16);
        memcpy(key + 16, account, 32);
    }
    if (table == LOCKS)
        memcpy(key + 48, controller, 32);
    print = key_print(books->secret, key, width);
    for (slot = print & (books->slot_count - 1); books->slots[slot] != 0; slot = (slot + 1) & (books->slot_count - 1)) {
        row = &books->rows[books->slots[slot] - 1];
        if (row->print == print && row->table == table && memcmp(row->key, key, width) == 0)
            return books->slots[slot] - 1;
    }
    row = &books->rows[books->count];
    row->amounts[0] = row->amounts[1] = 0;
    row->print = print;
    row->value.data = NULL;
    row->table = (uint8_t)table;
    row->read = row->changed = 0;
    memcpy(row->key, key, width);
    books->slots[slot] = (uint32_t)++books->count;
    books->counts[table]++;
    return (uint32_t)books->count - 1;
}

static struct p2l_reader reader_over(struct p2l_span span)
{
    return (struct p2l_reader){span.data, 0, span.size, 0, 0};
}

/* The row with its amounts; NULL if it is not for this path. */
static struct row *row_read(struct execution *execution, uint32_t number)
{
    struct row *row = &execution->books.rows[number];
    if (!row->read) {
        if (row->value.data != NULL) {
            struct p2l_reader reader = reader_over(row->value);
            int amounts = row->table == HOLDINGS ? 2 : 1;
            if (!p2l_read_versioned(&reader, 1 + (uint64_t)amounts))
                return NULL;
            for (int i = 0; i < amounts; i++)
                if (!p2l_read_uint(&reader, &row->amounts[i]))
                    return NULL;
            /* No state that grew by the rules breaks this sum; one that does is not for the bulk path. */
            if (reader.position != reader.end || row->amounts[0] > UINT64_MAX - row->amounts[1])
                return NULL;
        }
        row->read = 1;
    }
    return row;
}

static void row_note(struct execution *execution, const struct row *row)
{
    struct note *note = &execution->notes[execution->note_count++];
    note->row = (uint32_t)(row - execution->books.rows);
    memcpy(note->amounts, row->amounts, sizeof note->amounts);
}

static void take_back(struct execution *execution)
{
    while (execution->note_count > 0) {
        const struct note *note = &execution->notes[--execution->note_count];
        memcpy(execution->books.rows[note->row].amounts, note->amounts, sizeof note->amounts);
    }
}

static void keep(struct execution *execution)
{
    while (execution->note_count > 0)
        execution->books.rows[execution->notes[--execution->note_count].row].changed = 1;
}

/* The changed rows of one table. Those that were there and still are change together; those that came or went are put
 * or deleted one by one. changes, values: room for all rows of the books. */
enum { VALUE_MAX = 2 + 2 * 9 };
static int rows_write(struct execution *execution, unsigned table, struct p2l_change *changes,
                      uint8_t (*values)[VALUE_MAX])
{
    const struct books *books = &execution->books;
    struct p2l_state *state = execution->state;
    const int amounts = table == HOLDINGS ? 2 : 1;
    size_t count = 0;
    int status = P2L_OK, found;

    for (size_t i = 0; i < books->count && status == P2L_OK; i++) {
        const struct row *row = &books->rows[i];
        uint8_t *value = values[count];
        size_t size = 2;
        if (row->table != table || !row->changed)
            continue;
        if (row->amounts[0] == 0 && row->amounts[1] == 0) {
            if (row->value.data != NULL)
                status = p2l_state_delete(state, table, row->key, &found);
            continue;
        }
        value[0] = (uint8_t)(0x91 + amounts);
        value[1] = 1;
        for (int k = 0; k < amounts; k++)
            size += p2l_write_uint(value + size, row->amounts[k]);
        if (row->value.data == NULL)
            status = p2l_state_put(state, table, row->key, value, size);
        else
            changes[count++] = (struct p2l_change){row->key, value, size};
    }
    return status == P2L_OK ? p2l_state_change(state, table, changes, count) : status;
}

static int books_write(struct execution *execution)
{
    static const unsigned TABLES[] = {HOLDINGS, LOCKS, NATIVE};
    size_t count = execution->books.count;
    struct p2l_change *changes = p2l_allocate(count * sizeof *changes + 1);
    uint8_t (*values)[VALUE_MAX] = p2l_allocate(count * sizeof *values + 1);
    int status = changes != NULL && values != NULL ? P2L_OK : P2L_NO_MEMORY;

    for (size_t i = 0; i < sizeof TABLES / sizeof *TABLES && status == P2L_OK; i++)
        if (execution->books.counts[TABLES[i]] > 0)
            status = rows_write(execution, TABLES[i], changes, values);
    free(changes);
    free(values);
    return status;
}

/* Memory -------------------------------------------------------------------------------------------------------- */

/* The slot of a key: that of its row, or the empty one where it belongs. Half of an id tells it from all others. */
static uint32_t *memory_slot(const struct memory *memory, const uint8_t key[40])
{
    size_t slot = key_print(memory->secret, key + 8, 16) & (memory->slot_count - 1);
    while (memory->slots[slot] != 0 && memcmp(memory->rows[memory->slots[slot] - 1].key, key, 40) != 0)
        slot = (slot + 1) & (memory->slot_count - 1);
    return &memory->slots[slot];
}

static int memory_reserve(struct memory *memory, size_t more)
{
    size_t capacity = memory->capacity > 0 ? memory->capacity : STEPS_MAX;
    void *fresh;
    if (memory->count + more <= memory->capacity)
        return 1;
    while (capacity < memory->count + more)
        capacity *= 2;
    fresh = p2l_reallocate(memory->rows, capacity * sizeof *memory->rows);
    if (fresh == NULL)
        return 0;
    memory->rows = fresh;
    fresh = p2l_allocate(2 * capacity * sizeof *memory->slots);
    if (fresh == NULL)
        return 0;
    free(memory->slots);
    memory->slots = fresh;
    memory->slot_count = 2 * capacity;
    memset(memory->slots, 0, memory->slot_count * sizeof *memory->slots);
    memory->capacity = capacity;
    for (size_t i = 0; i < memory->count; i++)
        *memory_slot(memory, memory->rows[i].key) = (uint32_t)i + 1;
    return 1;
}

/* Room was reserved, and the key is not there. */
static void remember(struct memory *memory, const uint8_t key[40], uint64_t height, int reason, uint32_t operation)
{
    struct remembered *row = &memory->rows[memory->count];
    size_t size = 2;
    memcpy(row->key, key, 40);
    row->value[0] = 0x94;
    row->value[1] = 1;
    size += p2l_write_uint(row->value + size, height);
    size += p2l_write_uint(row->value + size, (uint64_t)reason);
    size += p2l_write_uint(row->value + size, operation);
    row->size = (uint8_t)size;
    *memory_slot(memory, key) = (uint32_t)++memory->count;
}

static int memory_write(struct execution *execution)
{
    struct memory *memory = &execution->memory;
    struct p2l_change *rows;
    int status;
    if (memory->count == 0)
        return P2L_OK;
    rows = p2l_allocate(memory->count * sizeof *rows);
    if (rows == NULL)
        return P2L_NO_MEMORY;
    for (size_t i = 0; i < memory->count; i++)
        rows[i] = (struct p2l_change){memory->rows[i].key, memory->rows[i].value, memory->rows[i].size};
    status = p2l_state_insert_all(execution->state, REPLAY, rows, memory->count);
    free(rows);
    return status;
}

/* Windows ------------------------------------------------------------------------------------------------------- */

/* The scan has checked these bytes; a read that fails can only mean that they are not the scanned ones. */
static int next_operation(struct p2l_reader *reader, struct operation *operation)
{
    if (!p2l_read_fields(reader, 5) || !p2l_read_uint(reader, &operation->number) ||
        !p2l_read_bytes(reader, 32, &operation->account))
        return 0;
    if (operation->number == TRANSFER)
        return p2l_read_bytes(reader, 32, &operation->other) && p2l_read_bytes(reader, 16, &operation->asset) &&
               p2l_read_uint(reader, &operation->amount);
    return p2l_read_bytes(reader, 16, &operation->asset) && p2l_read_uint(reader, &operation->amount) &&
           p2l_read_bytes(reader, 32, &operation->other);
}

/* The place of an account among those of the window, of which the last few are the transaction's own. */
static uint32_t window_account(struct window *window, size_t first, const uint8_t *account)
{
    size_t back = window->account_count > first + 4 ? window->account_count - 4 : first;
    for (size_t i = back; i < window->account_count; i++)
        if (memcmp(window->accounts[i].key, account, 32) == 0)
            return (uint32_t)i;
    window->accounts[window->account_count].key = account;
    return (uint32_t)window->account_count++;
}

static int window_reserve(struct execution *execution, size_t operations)
{
    struct window *window = &execution->window;
    void *memory;
    if (operations <= window->operation_capacity)
        return 1;
    memory = p2l_reallocate(window->operations, operations * sizeof *window->operations);
    if (memory == NULL)
        return 0;
    window->operations = memory;
    memory = p2l_reallocate(window->accounts, (2 * operations + STEPS_MAX) * sizeof *window->accounts);
    if (memory == NULL)
        return 0;
    window->accounts = memory;
    memory = p2l_reallocate(window->rows, (2 * operations + STEPS_MAX) * sizeof *window->rows);
    if (memory == NULL)
        return 0;
    window->rows = memory;
    memory = p2l_reallocate(execution->notes, 2 * operations * sizeof *execution->notes);
    if (memory == NULL)
        return 0;
    execution->notes = memory;
    window->operation_capacity = operations;
    return 1;
}

/* Searches for the rows of one table among those of the books from `first` on. */
static void rows_search(struct execution *execution, unsigned table, size_t first)
{
    struct books *books = &execution->books;
    struct p2l_search *searches = execution->window.rows;
    size_t count = 0;
    for (size_t i = first; i < books->count; i++)
        if (books->rows[i].table == table)
            searches[count++].key = books->rows[i].key;
    p2l_state_search(execution->state, table, searches, count);
    count = 0;
    for (size_t i = first; i < books->count; i++)
        if (books->rows[i].table == table)
            books->rows[i].value = searches[count++].value;
}

/* Takes the plain transactions from `start` on, as many as the window has room for, and finds what they will look at.
 * A step that cannot be read ends the window. */
static int window_open(struct execution *execution, size_t start)
{
    const struct p2l_columns *columns = execution->columns;
    struct window *window = &execution->window;
    struct books *books = &execution->books;
    struct p2l_search replays[STEPS_MAX];
    size_t operations = 0, known = books->count;

    window->count = window->operation_count = window->account_count = 0;
    for (size_t i = start; i < columns->count && columns->rows[i].plain && window->count < STEPS_MAX; i++) {
        operations += columns->rows[i].operation_count;
        if (window->count > 0 && operations > OPERATIONS_MAX)
            break;
        if (!window_reserve(execution, operations > OPERATIONS_MAX ? operations : OPERATIONS_MAX))
            return P2L_NO_MEMORY;
        window->count++;
    }
    if (!books_reserve(books, 2 * (operations > OPERATIONS_MAX ? operations : OPERATIONS_MAX) +
                                  (execution->fee != 0 ? STEPS_MAX : 0)) ||
        !memory_reserve(&execution->memory, STEPS_MAX))
        return P2L_NO_MEMORY;
    for (size_t i = 0; i < window->count; i++) {
        const struct p2l_row *row = &columns->rows[start + i];
        struct p2l_reader reader = {columns->data, row->operations_at, row->end, 0, 0};
        struct step *step = &window->steps[i];
        size_t first = window->account_count;
        step->operations_at = window->operation_count;
        step->remembered = 0;
        step->payer_at = window_account(window, first, columns->data + row->fee_payer_at);
        if (execution->fee != 0)
            step->payer_row = books_row(books, NATIVE, NULL, columns->data + row->fee_payer_at, NULL);
        p2l_store64(step->replay_key, row->valid_until);
        memcpy(step->replay_key + 8, columns->ids + 32 * (start + i), 32);
        replays[i].key = step->replay_key;
        for (uint32_t k = 0; k < row->operation_count; k++) {
            struct operation *operation = &window->operations[window->operation_count++];
            if (!next_operation(&reader, operation)) {
                window->count = i;
                break;
            }
            operation->account_at = window_account(window, first, operation->account);
            operation->other_at = window_account(window, first, operation->other);
            operation->source = books_row(books, HOLDINGS, operation->asset, operation->account, NULL);
            operation->target = operation->number == TRANSFER
                                    ? books_row(books, HOLDINGS, operation->asset, operation->other, NULL)
                                    : books_row(books, LOCKS, operation->asset, operation->account, operation->other);
        }
    }
    p2l_state_search(execution->state, ACCOUNTS, window->accounts, window->account_count);
    rows_search(execution, HOLDINGS, known);
    rows_search(execution, LOCKS, known);
    if (execution->fee != 0)
        rows_search(execution, NATIVE, known);
    p2l_state_search(execution->state, REPLAY, replays, window->count);
    for (size_t i = 0; i < window->count; i++)
        window->steps[i].remembered = replays[i].value.data != NULL;
    return P2L_OK;
}

/* Whether the table holds the step's row: it did when the call began, or an earlier step makes it. */
static int is_remembered(const struct execution *execution, const struct step *step)
{
    return step->remembered || *memory_slot(&execution->memory, step->replay_key) != 0;
}

/* Rules --------------------------------------------------------------------------------------------------------- */

/* The value of an account or asset whose head is `[1, 0 (flags), ...`; the reader stands behind the flags. */
static int check_row(struct p2l_span value, uint64_t fields, int unknown, struct p2l_reader *reader)
{
    uint64_t flags;
    if (value.data == NULL)
        return unknown;
    *reader = reader_over(value);
    if (!p2l_read_versioned(reader, fields) || !p2l_read_uint(reader, &flags) || flags != 0)
        return UNDECIDED;
    return P2L_REASON_OK;
}

static int check_account(const struct p2l_search *account)
{
    struct p2l_reader reader;
    return check_row(account->value, 3, P2L_REASON_UNKNOWN_ACCOUNT, &reader);
}

static int check_asset(struct execution *execution, const uint8_t *asset)
{
    struct seen *seen = &execution->seen[key_print(execution->secret, asset, 16) & (SEEN - 1)];
    if (!seen->known || memcmp(seen->asset, asset, 16) != 0) {
        struct p2l_span value = {NULL, 0};
        struct p2l_reader reader;
        p2l_state_get(execution->state, ASSETS, asset, &value);
        memcpy(seen->asset, asset, 16);
        seen->reason = check_row(value, 8, P2L_REASON_UNKNOWN_ASSET, &reader);
        seen->known = 1;
    }
    return seen->reason;
}

/* Nearly all accounts have one key: `[1, 0, [t, [[key, w]], v]]` with t, w and v below 128. */
static int one_key_policy(struct p2l_span value, const uint8_t **key, int *enough)
{
    static const uint8_t HEAD[4] = {0x93, 0x01, 0x00, 0x93}, MIDDLE[4] = {0x91, 0x92, 0xc4, 0x20};
    const uint8_t *data = value.data;
    if (value.size != 43 || memcmp(data, HEAD, 4) != 0 || memcmp(data + 5, MIDDLE, 4) != 0)
        return 0;
    if (data[4] < 1 || data[4] > 0x7f || data[41] < data[4] || data[41] > 0x7f || data[42] < 1 || data[42] > 0x7f)
        return 0;
    *key = data + 9;
    *enough = 1;
    return 1;
}

/* Rule 4 for one account. Keys and signers ascend, so one walk over both finds the common ones. */
static int check_authority(const struct p2l_search *account, const uint8_t *signers, size_t signer_count)
{
    struct p2l_reader reader;
    struct p2l_policy policy;
    uint64_t weight = 0;
    size_t signer = 0;
    const uint8_t *key;
    int reason, enough;
    if (account->value.data != NULL && one_key_policy(account->value, &key, &enough)) {
        for (; signer < signer_count; signer++)
            if (memcmp(signers + 32 * signer, key, 32) == 0)
                return P2L_REASON_OK;
        return P2L_REASON_UNAUTHORISED;
    }
    reason = check_row(account->value, 3, P2L_REASON_UNKNOWN_ACCOUNT, &reader);
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

/* Rule 6 for one operation. */
static int apply(struct execution *execution, const struct operation *operation)
{
    uint64_t amount = operation->amount;
    struct row *source, *target, *lock;
    int reason;

    if (amount == 0)
        return P2L_REASON_ZERO_AMOUNT;
    if (operation->number != RELEASE) {
        if (memcmp(operation->account, operation->other, 32) == 0)
            return P2L_REASON_SAME_ACCOUNT;
        reason = check_account(&execution->window.accounts[operation->other_at]);
        if (reason != P2L_REASON_OK)
            return reason;
    }
    reason = check_asset(execution, operation->asset);
    if (reason != P2L_REASON_OK)
        return reason;

    if (operation->number == RELEASE) {
        lock = row_read(execution, operation->target);
        if (lock == NULL)
            return UNDECIDED;
        if (lock->amounts[0] < amount)
            return P2L_REASON_INSUFFICIENT_LOCKED;
        if (check_account(&execution->window.accounts[operation->account_at]) == UNDECIDED)
            return UNDECIDED; /* guards are asked about it, though nobody needs its signature */
        source = row_read(execution, operation->source);
        if (source == NULL || source->amounts[1] < amount)
            return UNDECIDED;
        row_note(execution, lock);
        row_note(execution, source);
        lock->amounts[0] -= amount;
        source->amounts[1] -= amount;
        source->amounts[0] += amount;
        return P2L_REASON_OK;
    }

    source = row_read(execution, operation->source);
    if (source == NULL)
        return UNDECIDED;
    if (source->amounts[0] < amount)
        return P2L_REASON_INSUFFICIENT_FREE;
    target = row_read(execution, operation->target);
    if (operation->number == TRANSFER) {
        if (target == NULL)
            return UNDECIDED;
        if (target->amounts[0] + target->amounts[1] > UINT64_MAX - amount)
            return P2L_REASON_OVERFLOW;
        row_note(execution, source);
        row_note(execution, target);
        source->amounts[0] -= amount;
        target->amounts[0] += amount;
        return P2L_REASON_OK;
    }
    if (target == NULL || target->amounts[0] > UINT64_MAX - amount)
        return UNDECIDED;
    row_note(execution, source);
    row_note(execution, target);
    source->amounts[0] -= amount;
    source->amounts[1] += amount;
    target->amounts[0] += amount;
    return P2L_REASON_OK;
}

static void decide(uint8_t code[4], int reason, unsigned operation)
{
    code[0] = (uint8_t)(reason >> 8);
    code[1] = (uint8_t)reason;
    code[2] = (uint8_t)(operation >> 8);
    code[3] = (uint8_t)operation;
}

/* One transaction of the window. P2L_OK: decided, and its code written. */
static int execute_one(struct execution *execution, size_t start, size_t index, uint8_t code[4])
{
    const struct p2l_columns *columns = execution->columns;
    const struct p2l_row *row = &columns->rows[start + index];
    const uint8_t *signers = columns->public_keys + 32 * (size_t)row->first_signature;
    struct window *window = &execution->window;
    struct step *step = &window->steps[index];
    const struct operation *operations = window->operations + step->operations_at;
    struct row *payer = NULL;
    uint64_t due = 0;
    int reason;
    uint32_t i, checked = step->payer_at;

    /* Rules 1 to 3 */
    if (row->valid_until < execution->height)
        reason = P2L_REASON_EXPIRED;
    else if (row->valid_until - execution->height > execution->replay_window)
        reason = P2L_REASON_TOO_FAR_AHEAD;
    else if (is_remembered(execution, step))
        reason = P2L_REASON_DUPLICATE;
    else if (execution->fee != 0 && execution->fee > row->max_fee / row->operation_count)
        reason = P2L_REASON_FEE_TOO_LOW;
    else /* Rule 4: the payer of the fee, then the debited side of every operation */
        reason = check_authority(&window->accounts[step->payer_at], signers, row->signature_count);
    if (reason == UNDECIDED)
        return UNDECIDED;
    if (reason != P2L_REASON_OK) {
        decide(code, reason, WHOLE_TRANSACTION);
        return P2L_OK;
    }
    for (i = 0; i < row->operation_count; i++) {
        uint32_t debited = operations[i].number == RELEASE ? operations[i].other_at : operations[i].account_at;
        if (debited == checked)
            continue;
        reason = check_authority(&window->accounts[debited], signers, row->signature_count);
        if (reason == UNDECIDED)
            return UNDECIDED;
        if (reason != P2L_REASON_OK) {
            decide(code, reason, i);
            return P2L_OK;
        }
        checked = debited;
    }

    /* Rule 5: the fee. No plain operation touches native money, so that it can be taken when all else is decided. */
    if (execution->fee != 0) {
        due = execution->fee * row->operation_count; /* at most max_fee */
        payer = row_read(execution, step->payer_row);
        if (payer == NULL || execution->collected > UINT64_MAX - due)
            return UNDECIDED;
        if (payer->amounts[0] < due) {
            decide(code, P2L_REASON_CANNOT_PAY_FEE, WHOLE_TRANSACTION);
            return P2L_OK;
        }
    }

    /* Rule 6. From here on the transaction is remembered, whether it succeeds or fails. */
    for (i = 0; i < row->operation_count; i++) {
        reason = apply(execution, &operations[i]);
        if (reason != P2L_REASON_OK)
            break;
    }
    if (reason == P2L_REASON_OK) {
        i = 0;
        keep(execution);
    } else {
        take_back(execution);
        if (reason == UNDECIDED)
            return UNDECIDED;
    }
    if (payer != NULL) {
        payer->amounts[0] -= due;
        payer->changed = 1;
        execution->collected += due;
    }
    remember(&execution->memory, step->replay_key, execution->height, reason, i);
    decide(code, reason, i);
    return P2L_OK;
}

int p2l_execute(struct p2l_state *state, const struct p2l_columns *columns, size_t start, uint64_t height,
                uint64_t replay_window, uint64_t fee, uint8_t *codes, uint64_t *collected, size_t *next)
{
    struct step steps[STEPS_MAX];
    enum { EXPECTED_MAX = 1 << 15 };
    struct execution execution;
    size_t expected = 0; /* rows: at most two for each operation, one for a fee; the books grow from there on */
    int status = P2L_OK, written;

    if (p2l_state_width(state, ACCOUNTS) != 32 || p2l_state_width(state, ASSETS) != 16 ||
        p2l_state_width(state, HOLDINGS) != 48 || p2l_state_width(state, LOCKS) != 80 ||
        p2l_state_width(state, REPLAY) != 40 || (fee != 0 && p2l_state_width(state, NATIVE) != 32))
        return P2L_WRONG_TABLES;
    memset(&execution, 0, sizeof execution);
    execution.state = state;
    execution.columns = columns;
    execution.height = height;
    execution.replay_window = replay_window;
    execution.fee = fee;
    execution.window.steps = steps;
    execution.books.secret = execution.memory.secret = execution.secret;
    p2l_random((uint8_t *)execution.secret, sizeof execution.secret); /* without it the prints are no secret */
    for (size_t i = start; i < columns->count && columns->rows[i].plain && expected < EXPECTED_MAX; i++)
        expected += 2 * columns->rows[i].operation_count + (fee != 0);
    if (!books_reserve(&execution.books, expected < EXPECTED_MAX ? expected : EXPECTED_MAX))
        status = P2L_NO_MEMORY;
    while (status == P2L_OK && start < columns->count && columns->rows[start].plain) {
        size_t i = 0;
        status = window_open(&execution, start);
        if (status == P2L_OK && execution.window.count == 0)
            status = UNDECIDED;
        for (; status == P2L_OK && i < execution.window.count; i++) {
            status = execute_one(&execution, start, i, codes + 4 * (start + i));
            if (status != P2L_OK)
                break;
        }
        start += i;
    }
    if (status == P2L_OK || status == UNDECIDED) {
        written = books_write(&execution);
        if (written == P2L_OK)
            written = memory_write(&execution);
        status = written == P2L_OK ? P2L_OK : written;
    }
    free(execution.books.rows);
    free(execution.books.slots);
    free(execution.memory.rows);
    free(execution.memory.slots);
    free(execution.window.operations);
    free(execution.window.accounts);
    free(execution.window.rows);
    free(execution.notes);
    *collected = execution.collected;
    *next = start;
    return status;
}
