/* The canonical scan: a signed batch, or single signed transactions, into columns (protocol.md, sections 1, 3 to 5).
 *
 * One pass, item by item, over bytes that nobody has judged yet. Every read is bounded by the end; a length is
 * compared with the bytes that are left before it is used; nothing is allocated for a count before its items were
 * read. The first wrong item ends the scan with a refusal and its offset; which one is found first is part of the
 * contract with _reference.py. */

#include "internal.h"

#include <stdlib.h>

const char *p2l_refusal_name(int refusal)
{
    static const char *const NAMES[] = {
        "none",          "truncated", "trailing", "not_canonical",     "wrong_type", "unknown_version",
        "wrong_network", "too_large", "too_many", "unknown_operation", "bad_form",   "signatures_unsorted",
        "empty"};
    return NAMES[refusal >= 0 && refusal <= P2L_EMPTY ? refusal : 0];
}

static int refuse(struct p2l_reader *reader, int refusal, size_t at)
{
    reader->refusal = refusal;
    reader->refusal_at = at;
    return 0;
}

/* Heads of types that canonical MessagePack never has: maps, floats, signed integers, extensions, 0xc1. */
static int forbidden(uint8_t head)
{
    return (head >= 0x80 && head <= 0x8f) || head == 0xc1 || (head >= 0xc7 && head <= 0xcb) ||
           (head >= 0xd0 && head <= 0xd8) || head == 0xde || head == 0xdf || head >= 0xe0;
}

static int refuse_type(struct p2l_reader *reader, uint8_t head)
{
    return refuse(reader, forbidden(head) ? P2L_NOT_CANONICAL : P2L_WRONG_TYPE, reader->position);
}

static int read_head(struct p2l_reader *reader, uint8_t *head)
{
    if (reader->position >= reader->end)
        return refuse(reader, P2L_TRUNCATED, reader->position);
    *head = reader->data[reader->position];
    return 1;
}

/* The big-endian number behind the head, which a shorter form must not have been able to carry. */
static int read_number(struct p2l_reader *reader, size_t width, uint64_t least, uint64_t *value)
{
    const uint8_t *bytes = reader->data + reader->position + 1;
    uint64_t number = 0;
    if (reader->end - reader->position < 1 + width)
        return refuse(reader, P2L_TRUNCATED, reader->position);
    for (size_t i = 0; i < width; i++)
        number = number << 8 | bytes[i];
    if (number < least)
        return refuse(reader, P2L_NOT_CANONICAL, reader->position);
    reader->position += 1 + width;
    *value = number;
    return 1;
}

int p2l_read_uint(struct p2l_reader *reader, uint64_t *value)
{
    uint8_t head;
    if (!read_head(reader, &head))
        return 0;
    if (head < 0x80) {
        reader->position++;
        *value = head;
        return 1;
    }
    switch (head) {
    case 0xcc:
        return read_number(reader, 1, 0x80, value);
    case 0xcd:
        return read_number(reader, 2, 0x100, value);
    case 0xce:
        return read_number(reader, 4, 0x10000, value);
    case 0xcf:
        return read_number(reader, 8, 0x100000000, value);
    default:
        return refuse_type(reader, head);
    }
}

/* A byte string of least .. most bytes. */
static int read_binary(struct p2l_reader *reader, size_t least, size_t most, const uint8_t **bytes)
{
    size_t start = reader->position;
    uint64_t length;
    uint8_t head;
    int good;
    if (!read_head(reader, &head))
        return 0;
    if (head == 0xc4)
        good = read_number(reader, 1, 0, &length);
    else if (head == 0xc5)
        good = read_number(reader, 2, 0x100, &length);
    else if (head == 0xc6)
        good = read_number(reader, 4, 0x10000, &length);
    else
        return refuse_type(reader, head);
    if (!good)
        return 0;
    if (length > reader->end - reader->position)
        return refuse(reader, P2L_TRUNCATED, start);
    if (length < least || length > most)
        return refuse(reader, P2L_BAD_FORM, start);
    *bytes = reader->data + reader->position;
    reader->position += length;
    return 1;
}

int p2l_read_bytes(struct p2l_reader *reader, size_t width, const uint8_t **bytes)
{
    return read_binary(reader, width, width, bytes);
}

/* UTF-8 as RFC 3629 has it: no surrogates, nothing above U+10FFFF, shortest forms only. */
static int utf8_valid(const uint8_t *text, size_t size)
{
    size_t i = 0;
    while (i < size) {
        uint8_t head = text[i];
        size_t more;
        uint8_t least = 0x80, most = 0xbf; /* of the second byte */
        if (head < 0x80) {
            i++;
            continue;
        }
        if (head >= 0xc2 && head <= 0xdf) {
            more = 1;
        } else if (head >= 0xe0 && head <= 0xef) {
            more = 2;
            if (head == 0xe0)
                least = 0xa0;
            if (head == 0xed)
                most = 0x9f;
        } else if (head >= 0xf0 && head <= 0xf4) {
            more = 3;
            if (head == 0xf0)
                least = 0x90;
            if (head == 0xf4)
                most = 0x8f;
        } else {
            return 0;
        }
        if (more >= size - i || text[i + 1] < least || text[i + 1] > most)
            return 0;
        for (size_t k = 2; k <= more; k++)
            if ((text[i + k] & 0xc0) != 0x80)
                return 0;
        i += 1 + more;
    }
    return 1;
}

static int read_text(struct p2l_reader *reader, size_t least, size_t most, const uint8_t **bytes)
{
    size_t start = reader->position;
    uint64_t length;
    uint8_t head;
    int good = 1;
    if (!read_head(reader, &head))
        return 0;
    if (head >= 0xa0 && head <= 0xbf) {
        length = head & 0x1f;
        reader->position++;
    } else if (head == 0xd9) {
        good = read_number(reader, 1, 0x20, &length);
    } else if (head == 0xda) {
        good = read_number(reader, 2, 0x100, &length);
    } else if (head == 0xdb) {
        good = read_number(reader, 4, 0x10000, &length);
    } else {
        return refuse_type(reader, head);
    }
    if (!good)
        return 0;
    if (length > reader->end - reader->position)
        return refuse(reader, P2L_TRUNCATED, start);
    if (!utf8_valid(reader->data + reader->position, length))
        return refuse(reader, P2L_NOT_CANONICAL, start);
    if (length < least || length > most)
        return refuse(reader, P2L_BAD_FORM, start);
    *bytes = reader->data + reader->position;
    reader->position += length;
    return 1;
}

static int read_array(struct p2l_reader *reader, uint64_t *count)
{
    size_t start = reader->position;
    uint8_t head;
    if (!read_head(reader, &head))
        return 0;
    if (head >= 0x90 && head <= 0x9f) {
        *count = head & 0x0f;
        reader->position++;
    } else if (head == 0xdc) {
        if (!read_number(reader, 2, 0x10, count))
            return 0;
    } else if (head == 0xdd) {
        if (!read_number(reader, 4, 0x10000, count))
            return 0;
    } else {
        return refuse_type(reader, head);
    }
    /* Every element has at least one byte, so a count beyond the bytes that are left is cut off for certain. */
    if (*count > reader->end - reader->position)
        return refuse(reader, P2L_TRUNCATED, start);
    return 1;
}

int p2l_read_fields(struct p2l_reader *reader, uint64_t count)
{
    size_t start = reader->position;
    uint64_t found;
    if (!read_array(reader, &found))
        return 0;
    return found == count || refuse(reader, P2L_BAD_FORM, start);
}

/* The head of an object: its version is judged before the number of its fields. */
int p2l_read_versioned(struct p2l_reader *reader, uint64_t count)
{
    size_t start = reader->position, at;
    uint64_t found, version;
    if (!read_array(reader, &found))
        return 0;
    if (found == 0)
        return refuse(reader, P2L_BAD_FORM, start);
    at = reader->position;
    if (!p2l_read_uint(reader, &version))
        return 0;
    if (version != 1)
        return refuse(reader, P2L_UNKNOWN_VERSION, at);
    return found == count || refuse(reader, P2L_BAD_FORM, start);
}

int p2l_read_policy(struct p2l_reader *reader, struct p2l_policy *policy)
{
    size_t threshold_at, at;
    uint64_t count, total = 0;
    if (!p2l_read_fields(reader, 3))
        return 0;
    threshold_at = reader->position;
    if (!p2l_read_uint(reader, &policy->threshold))
        return 0;
    at = reader->position;
    if (!read_array(reader, &count))
        return 0;
    if (count < 1 || count > 16)
        return refuse(reader, P2L_BAD_FORM, at);
    policy->count = (size_t)count;
    for (size_t i = 0; i < count; i++) {
        if (!p2l_read_fields(reader, 2))
            return 0;
        at = reader->position;
        if (!p2l_read_bytes(reader, 32, &policy->keys[i]))
            return 0;
        if (i > 0 && memcmp(policy->keys[i], policy->keys[i - 1], 32) <= 0)
            return refuse(reader, P2L_BAD_FORM, at);
        at = reader->position;
        if (!p2l_read_uint(reader, &policy->weights[i]))
            return 0;
        if (policy->weights[i] < 1 || policy->weights[i] > UINT32_MAX)
            return refuse(reader, P2L_BAD_FORM, at);
        total += policy->weights[i]; /* 16 weights below 2^32 */
    }
    if (policy->threshold < 1 || policy->threshold > total)
        return refuse(reader, P2L_BAD_FORM, threshold_at);
    at = reader->position;
    if (!p2l_read_uint(reader, &policy->version))
        return 0;
    return policy->version != 0 || refuse(reader, P2L_BAD_FORM, at);
}

size_t p2l_write_uint(uint8_t *out, uint64_t value)
{
    if (value < 0x80) {
        out[0] = (uint8_t)value;
        return 1;
    }
    if (value < 0x100) {
        out[0] = 0xcc;
        out[1] = (uint8_t)value;
        return 2;
    }
    if (value < 0x10000) {
        out[0] = 0xcd;
        out[1] = (uint8_t)(value >> 8);
        out[2] = (uint8_t)value;
        return 3;
    }
    if (value < 0x100000000) {
        out[0] = 0xce;
        p2l_store32(out + 1, (uint32_t)value);
        return 5;
    }
    out[0] = 0xcf;
    p2l_store64(out + 1, value);
    return 9;
}

/* The forms of the operations (protocol.md, section 4), as forms.h has them. */
enum {
    FIELD_BYTES,            /* least .. most of them */
    FIELD_BYTES_OR_NOTHING, /* most, or none */
    FIELD_NUMBER,           /* least .. most */
    FIELD_SWITCH,
    FIELD_TEXT, /* least .. most bytes */
    FIELD_POLICY,
    FIELD_RECORD,        /* an array of the next `most` fields */
    FIELD_LIST,          /* least .. most of what the next field says, which with all inside it is `span` fields */
    FIELD_ASCENDING_LIST /* the same; items are not records of lists, and strictly ascend by (the first of) their bytes */
};
struct field {
    uint8_t kind;
    uint8_t span;
    uint64_t least, most;
};
struct form {
    const struct field *fields;
    size_t count; /* of the operation's own fields, without those inside others */
};
#include "forms.h"

/* Of an item of a list: the bytes by which it is ordered. Numbers in canonical form ascend as their bytes do. */
struct order {
    const uint8_t *bytes;
    size_t size;
};

static int order_before(const struct order *one, const struct order *other)
{
    int found = memcmp(one->bytes, other->bytes, one->size < other->size ? one->size : other->size);
    return found < 0 || (found == 0 && one->size < other->size);
}

static const struct field *read_field(struct p2l_reader *reader, const struct field *field, struct order *order);

/* The field behind the list's, or NULL. */
static const struct field *read_list(struct p2l_reader *reader, const struct field *field)
{
    struct order order, previous = {NULL, 0};
    size_t at = reader->position;
    uint64_t count;
    if (!read_array(reader, &count))
        return NULL;
    if (count < field->least || count > field->most) {
        refuse(reader, P2L_BAD_FORM, at);
        return NULL;
    }
    for (uint64_t i = 0; i < count; i++, previous = order) {
        at = reader->position;
        if (read_field(reader, field + 1, &order) == NULL)
            return NULL;
        if (field->kind == FIELD_ASCENDING_LIST && i > 0 && !order_before(&previous, &order)) {
            refuse(reader, P2L_BAD_FORM, at);
            return NULL;
        }
    }
    return field + 1 + field->span;
}

/* Reads one field, however much is in it. The field behind it, or NULL with the refusal in the reader. As deep as forms
 * are, three at most. */
static const struct field *read_field(struct p2l_reader *reader, const struct field *field, struct order *order)
{
    size_t at = reader->position;
    const struct field *next = field + 1;
    struct p2l_policy policy;
    struct order inside;
    uint64_t value;
    uint8_t head;
    *order = (struct order){NULL, 0};
    switch (field->kind) {
    case FIELD_BYTES:
        if (!read_binary(reader, field->least, field->most, &order->bytes))
            return NULL;
        order->size = (size_t)(reader->data + reader->position - order->bytes);
        return next;
    case FIELD_BYTES_OR_NOTHING:
        if (!read_binary(reader, 0, field->most, &order->bytes))
            return NULL;
        order->size = (size_t)(reader->data + reader->position - order->bytes);
        if (order->size != 0 && order->size != field->most)
            break;
        return next;
    case FIELD_NUMBER:
        if (!p2l_read_uint(reader, &value))
            return NULL;
        if (value < field->least || value > field->most)
            break;
        *order = (struct order){reader->data + at, reader->position - at};
        return next;
    case FIELD_SWITCH:
        if (!read_head(reader, &head))
            return NULL;
        if (head != 0xc2 && head != 0xc3) {
            refuse_type(reader, head);
            return NULL;
        }
        reader->position++;
        *order = (struct order){reader->data + at, 1};
        return next;
    case FIELD_TEXT:
        if (!read_text(reader, field->least, field->most, &order->bytes))
            return NULL;
        order->size = (size_t)(reader->data + reader->position - order->bytes);
        return next;
    case FIELD_POLICY:
        return p2l_read_policy(reader, &policy) ? next : NULL;
    case FIELD_RECORD:
        if (!p2l_read_fields(reader, field->most))
            return NULL;
        for (uint64_t i = 0; i < field->most; i++) {
            next = read_field(reader, next, i == 0 ? order : &inside);
            if (next == NULL)
                return NULL;
        }
        return next;
    default:
        return read_list(reader, field);
    }
    refuse(reader, P2L_BAD_FORM, at);
    return NULL;
}

static int read_operation(struct p2l_reader *reader, uint32_t *plain)
{
    size_t start = reader->position, at;
    uint64_t count, number;
    const struct field *field;
    struct order order;
    if (!read_array(reader, &count))
        return 0;
    if (count == 0)
        return refuse(reader, P2L_BAD_FORM, start);
    at = reader->position;
    if (!p2l_read_uint(reader, &number))
        return 0;
    if (number >= sizeof FORMS / sizeof *FORMS || FORMS[number].fields == NULL)
        return refuse(reader, P2L_UNKNOWN_OPERATION, at);
    if (count != 1 + FORMS[number].count)
        return refuse(reader, P2L_BAD_FORM, start);
    field = FORMS[number].fields;
    for (size_t i = 0; i < FORMS[number].count; i++) {
        field = read_field(reader, field, &order);
        if (field == NULL)
            return 0;
    }
    *plain &= number <= 3;
    return 1;
}

/* Room for one more item of `size` bytes, doubling; never more than the scanned bytes justify. */
static int grow(void *array, size_t wanted, size_t size)
{
    void *memory;
    memcpy(&memory, array, sizeof memory);
    memory = p2l_reallocate(memory, wanted * size);
    if (memory == NULL)
        return 0;
    memcpy(array, &memory, sizeof memory);
    return 1;
}

static int row_add(struct p2l_columns *columns, struct p2l_row **row)
{
    if (columns->count == columns->capacity) {
        size_t wanted = columns->capacity ? 2 * columns->capacity : 16;
        if (!grow(&columns->rows, wanted, sizeof *columns->rows) || !grow(&columns->ids, wanted, 32))
            return 0;
        columns->capacity = wanted;
    }
    *row = &columns->rows[columns->count];
    return 1;
}

static int signature_add(struct p2l_columns *columns, const uint8_t *public_key, const uint8_t *signature)
{
    if (columns->signature_count == columns->signature_capacity) {
        size_t wanted = columns->signature_capacity ? 2 * columns->signature_capacity : 16;
        if (!grow(&columns->public_keys, wanted, 32) || !grow(&columns->signatures, wanted, 64))
            return 0;
        columns->signature_capacity = wanted;
    }
    memcpy(columns->public_keys + 32 * columns->signature_count, public_key, 32);
    memcpy(columns->signatures + 64 * columns->signature_count, signature, 64);
    columns->signature_count++;
    return 1;
}

/* Reads one signed transaction and adds its row. P2L_MALFORMED leaves the refusal in the reader and the columns with
 * perhaps too many signatures, which the caller takes back. */
static int read_transaction(struct p2l_columns *columns, struct p2l_reader *reader, const uint8_t network[8],
                            const struct p2l_limits *limits, uint64_t signature_room)
{
    size_t start = reader->position, body_at, body_end, at;
    uint64_t count, valid_until, max_fee;
    const uint8_t *bytes, *previous = NULL;
    struct p2l_row *row;

    if (!row_add(columns, &row))
        return P2L_NO_MEMORY;
    if (!p2l_read_fields(reader, 2))
        return P2L_MALFORMED;
    body_at = reader->position;
    if (!p2l_read_versioned(reader, 7))
        return P2L_MALFORMED;
    at = reader->position;
    if (!p2l_read_bytes(reader, 8, &bytes))
        return P2L_MALFORMED;
    if (memcmp(bytes, network, 8) != 0) {
        refuse(reader, P2L_WRONG_NETWORK, at);
        return P2L_MALFORMED;
    }
    if (!p2l_read_uint(reader, &valid_until) || !p2l_read_bytes(reader, 16, &bytes) ||
        !p2l_read_bytes(reader, 32, &bytes))
        return P2L_MALFORMED;
    row->fee_payer_at = (uint32_t)(bytes - reader->data);
    if (!p2l_read_uint(reader, &max_fee))
        return P2L_MALFORMED;
    at = reader->position;
    if (!read_array(reader, &count))
        return P2L_MALFORMED;
    if (count == 0 || count > limits->operations) {
        refuse(reader, count == 0 ? P2L_EMPTY : P2L_TOO_MANY, at);
        return P2L_MALFORMED;
    }
    row->operations_at = (uint32_t)reader->position;
    row->operation_count = (uint32_t)count;
    row->plain = 1;
    for (uint64_t i = 0; i < count; i++)
        if (!read_operation(reader, &row->plain))
            return P2L_MALFORMED;
    body_end = reader->position;
    if (!read_array(reader, &count))
        return P2L_MALFORMED;
    if (count == 0 || count > limits->signatures || count > signature_room) {
        refuse(reader, count == 0 ? P2L_EMPTY : P2L_TOO_MANY, body_end);
        return P2L_MALFORMED;
    }
    row->first_signature = (uint32_t)columns->signature_count;
    row->signature_count = (uint32_t)count;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *public_key, *signature;
        if (!p2l_read_fields(reader, 2))
            return P2L_MALFORMED;
        at = reader->position;
        if (!p2l_read_bytes(reader, 32, &public_key))
            return P2L_MALFORMED;
        if (previous != NULL && memcmp(public_key, previous, 32) <= 0) {
            refuse(reader, P2L_SIGNATURES_UNSORTED, at);
            return P2L_MALFORMED;
        }
        previous = public_key;
        if (!p2l_read_bytes(reader, 64, &signature))
            return P2L_MALFORMED;
        if (!signature_add(columns, public_key, signature))
            return P2L_NO_MEMORY;
    }
    if (reader->position - start > limits->transaction_bytes) {
        refuse(reader, P2L_TOO_LARGE, start);
        return P2L_MALFORMED;
    }
    row->start = (uint32_t)start;
    row->end = (uint32_t)reader->position;
    row->valid_until = valid_until;
    row->max_fee = max_fee;
    row->body_at = (uint32_t)body_at;
    row->body_end = (uint32_t)body_end;
    columns->count++;
    return P2L_OK;
}

/* The ids of all rows, together. */
static void rows_name(struct p2l_columns *columns)
{
    struct p2l_message messages[256];
    for (size_t i = 0; i < columns->count;) {
        size_t some = 0;
        for (; some < 256 && i < columns->count; some++, i++) {
            const struct p2l_row *row = &columns->rows[i];
            messages[some] = (struct p2l_message){columns->data + row->body_at, row->body_end - row->body_at,
                                                  columns->ids + 32 * i};
        }
        p2l_sha256_messages((const uint8_t *)"p2pl.tx1", 8, messages, some);
    }
}

void p2l_columns_init(struct p2l_columns *columns, const uint8_t *data, size_t size)
{
    memset(columns, 0, sizeof *columns);
    columns->data = data;
    columns->size = size;
}

void p2l_columns_free(struct p2l_columns *columns)
{
    free(columns->rows);
    free(columns->ids);
    free(columns->public_keys);
    free(columns->signatures);
    p2l_columns_init(columns, NULL, 0);
}

/* Offsets are kept in 32 bits. */
static const size_t SIZE_MAX_SCANNED = 0x7fffffff;

static int read_batch(struct p2l_columns *columns, struct p2l_reader *reader, const uint8_t network[8],
                      const struct p2l_limits *limits)
{
    size_t batch_at, batch_end, at;
    uint64_t count, signature_room = limits->batch_signatures;
    const uint8_t *bytes;

    if (columns->size > SIZE_MAX_SCANNED) {
        refuse(reader, P2L_TOO_LARGE, 0);
        return P2L_MALFORMED;
    }
    if (!p2l_read_fields(reader, 2))
        return P2L_MALFORMED;
    batch_at = reader->position;
    if (!p2l_read_versioned(reader, 6))
        return P2L_MALFORMED;
    at = reader->position;
    if (!p2l_read_bytes(reader, 8, &bytes))
        return P2L_MALFORMED;
    if (memcmp(bytes, network, 8) != 0) {
        refuse(reader, P2L_WRONG_NETWORK, at);
        return P2L_MALFORMED;
    }
    if (!p2l_read_bytes(reader, 32, &bytes))
        return P2L_MALFORMED;
    columns->maker_at = (uint32_t)(bytes - reader->data);
    if (!p2l_read_uint(reader, &columns->epoch) || !p2l_read_uint(reader, &columns->sequence))
        return P2L_MALFORMED;
    at = reader->position;
    if (!read_array(reader, &count))
        return P2L_MALFORMED;
    if (count == 0 || count > limits->transactions) {
        refuse(reader, count == 0 ? P2L_EMPTY : P2L_TOO_MANY, at);
        return P2L_MALFORMED;
    }
    for (uint64_t i = 0; i < count; i++) {
        int status = read_transaction(columns, reader, network, limits, signature_room);
        if (status != P2L_OK)
            return status;
        signature_room -= columns->rows[columns->count - 1].signature_count;
    }
    batch_end = reader->position;
    if (!p2l_read_bytes(reader, 64, &bytes))
        return P2L_MALFORMED;
    columns->maker_signature_at = (uint32_t)(bytes - reader->data);
    if (reader->position != reader->end) {
        refuse(reader, P2L_TRAILING, reader->position);
        return P2L_MALFORMED;
    }
    rows_name(columns);
    p2l_sha256_tagged("p2pl.ba1", reader->data + batch_at, batch_end - batch_at, columns->digest);
    return P2L_OK;
}

int p2l_batch_scan(struct p2l_columns *columns, const uint8_t network[8], const struct p2l_limits *limits)
{
    struct p2l_reader reader = {columns->data, 0, columns->size, 0, 0};
    int status = read_batch(columns, &reader, network, limits);
    columns->refusal = reader.refusal;
    columns->refusal_at = reader.refusal_at;
    return status;
}

int p2l_transactions_scan(struct p2l_columns *columns, const size_t *sizes, size_t count, const uint8_t network[8],
                          const struct p2l_limits *limits, int *refusals)
{
    size_t start = 0;
    for (size_t i = 0; i < count; start += sizes[i], i++) {
        struct p2l_reader reader = {columns->data, start, start + sizes[i], 0, 0};
        size_t rows = columns->count, signatures = columns->signature_count;
        int status = read_transaction(columns, &reader, network, limits, UINT64_MAX);
        if (status == P2L_NO_MEMORY)
            return status;
        if (status == P2L_OK && reader.position != reader.end) {
            refuse(&reader, P2L_TRAILING, reader.position);
            status = P2L_MALFORMED;
        }
        refusals[i] = status == P2L_OK ? 0 : reader.refusal;
        if (status != P2L_OK) {
            columns->count = rows;
            columns->signature_count = signatures;
        }
    }
    rows_name(columns);
    return P2L_OK;
}
