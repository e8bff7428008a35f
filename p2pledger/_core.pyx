# cython: language_level=3, boundscheck=False, wraparound=False, auto_pickle=False, autotestdict=False
"""The compiled core: checks arguments, drops the interpreter's lock, calls the C of native/.

The same names, the same results and the same errors as _reference.py, which explains them; _core.pyi is the typed
face. Where memory runs out in the middle of a write, MemoryError is raised and the branch is dropped.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_New
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_CheckExact
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from p2pledger._reference import KEY_WIDTH_MAX as _KEY_WIDTH_MAX
from p2pledger._reference import SCAN_SIZE_MAX as _SCAN_SIZE_MAX
from p2pledger._reference import UINT64_MAX as _UINT64_MAX
from p2pledger._reference import VALUE_SIZE_MAX as _VALUE_SIZE_MAX
from p2pledger._reference import (
    BranchInUse,
    Limits,
    MalformedBytes,
    Proof,
    StateReleased,
    Verdict,
    _as_index,
    _as_search,
    _as_uint64,
    _as_width,
    _check_int,
    _check_limits,
    _flatten_proof,
    check_batch_arguments,
)

cdef extern from "Python.h":
    # Of pointers, so that no reference is counted but the one that is kept.
    PyObject **PySequence_Fast_ITEMS(object sequence)
    bint is_bytes "PyBytes_CheckExact"(PyObject *item)
    const uint8_t *data_of "(const uint8_t *)PyBytes_AS_STRING"(PyObject *item)
    Py_ssize_t size_of "PyBytes_GET_SIZE"(PyObject *item)
    void keep_item "PyList_SET_ITEM"(object items, Py_ssize_t at, PyObject *item)
    PyObject *counted "Py_NewRef"(PyObject *item)

cdef extern from "ed25519.h" nogil:
    void p2l_scalar_reduce(uint64_t *scalar, const uint64_t *number)
    void p2l_scalar_accumulate(uint64_t *sum, const uint64_t *z, const uint64_t *scalar)

cdef extern from "p2l.h" nogil:
    enum:
        P2L_OK
        P2L_NO_MEMORY
        P2L_MALFORMED
        P2L_WRONG_TABLES
        P2L_TABLES
        P2L_TABLE_HEIGHT
        P2L_RECEIPT_MAX
    const char *p2l_refusal_name(int refusal)

    struct p2l_span:
        const uint8_t *data
        size_t size

    size_t p2l_level_count()
    const char *p2l_level_name(size_t index)
    int p2l_level_available(size_t index)
    size_t p2l_level_get()
    int p2l_level_set(size_t index)
    int p2l_hashing_force(int variant)
    const char *p2l_compiler()

    void p2l_sha256_many(const p2l_span *messages, size_t count, uint8_t *hashes)
    void p2l_sha256_tagged(const char *tag, const uint8_t *data, size_t size, uint8_t *hash)
    void p2l_merkle_leaves(const p2l_span *leaves, size_t count, uint8_t *hashes)
    void p2l_merkle_root(const p2l_span *leaves, size_t count, uint8_t *root)
    size_t p2l_merkle_path(uint8_t *hashes, size_t count, size_t index, uint8_t *path)
    int p2l_pow_search(const uint8_t *prefix, size_t size, uint64_t start, uint64_t count, const uint8_t *target,
                       uint64_t *nonce)
    int p2l_sha512_many(const p2l_span *messages, size_t count, uint8_t *hashes)
    int p2l_ed25519_verify(const uint8_t *public_keys, const uint8_t *signatures, const p2l_span *messages, size_t count,
                           uint8_t *flags)
    enum:
        P2L_PROBE_OPERANDS
        P2L_PROBE_RESULTS
    int p2l_ed25519_probe(int operation, const uint64_t *operands, uint64_t *results)
    int p2l_merkle_verify(const uint8_t *root, const uint8_t *leaf_hash, uint64_t index, uint64_t size,
                          const uint8_t *path, size_t path_count)
    size_t p2l_receipt_encode(const uint8_t *id, const uint8_t *code, uint8_t *receipt)
    void p2l_receipts_root(const uint8_t *ids, const uint8_t *codes, size_t count, uint8_t *root)

    struct p2l_limits:
        uint64_t transactions
        uint64_t operations
        uint64_t signatures
        uint64_t transaction_bytes
        uint64_t batch_signatures

    struct p2l_row:
        uint64_t valid_until
        uint32_t start
        uint32_t end
        uint32_t first_signature
        uint32_t signature_count
        uint32_t plain

    struct p2l_columns:
        const uint8_t *data
        p2l_row *rows
        uint8_t *ids
        size_t count
        uint8_t *public_keys
        uint8_t *signatures
        size_t signature_count
        uint64_t epoch
        uint64_t sequence
        uint32_t maker_at
        uint32_t maker_signature_at
        uint8_t digest[32]
        int refusal
        size_t refusal_at
    void p2l_columns_init(p2l_columns *columns, const uint8_t *data, size_t size)
    void p2l_columns_free(p2l_columns *columns)
    int p2l_batch_scan(p2l_columns *columns, const uint8_t *network, const p2l_limits *limits)
    void p2l_columns_root(const p2l_columns *columns, uint8_t *root)
    int p2l_columns_verify(const p2l_columns *columns, uint8_t *flags)
    int p2l_transactions_scan(p2l_columns *columns, const size_t *sizes, size_t count, const uint8_t *network,
                              const p2l_limits *limits, int *refusals)

    struct p2l_state:
        pass
    p2l_state *p2l_state_create(const uint8_t *widths)
    p2l_state *p2l_state_branch(const p2l_state *state)
    void p2l_state_free(p2l_state *state)
    unsigned p2l_state_width(const p2l_state *state, unsigned table)
    uint64_t p2l_state_count(const p2l_state *state, unsigned table)
    int p2l_state_get(const p2l_state *state, unsigned table, const uint8_t *key, p2l_span *value)
    int p2l_state_put(p2l_state *state, unsigned table, const uint8_t *key, const uint8_t *value, size_t size)
    int p2l_state_delete(p2l_state *state, unsigned table, const uint8_t *key, int *found)
    int p2l_state_delete_prefix(p2l_state *state, unsigned table, const uint8_t *prefix, size_t size,
                                uint64_t *deleted)
    int p2l_state_delete_below(p2l_state *state, unsigned table, const uint8_t *prefix, size_t size,
                               uint64_t *deleted)
    void p2l_state_hash(p2l_state *state)
    void p2l_state_root(const p2l_state *state, uint8_t *root)
    void p2l_state_table_root(const p2l_state *state, unsigned table, uint8_t *root)

    struct p2l_proof:
        p2l_span leaf_key
        p2l_span leaf_value
        size_t path_count
        uint16_t bits[1024]
        uint8_t siblings[1024][32]
        uint8_t tables[6][32]
    void p2l_state_prove(const p2l_state *state, unsigned table, const uint8_t *key, p2l_proof *proof)
    int p2l_state_verify(const uint8_t *root, unsigned table, p2l_span key, p2l_span value, const p2l_proof *proof)

    struct p2l_cursor:
        pass
    void p2l_cursor_open(p2l_cursor *cursor, const p2l_state *state, unsigned table, const uint8_t *prefix,
                         size_t prefix_size, const uint8_t *after)
    int p2l_cursor_next(p2l_cursor *cursor, p2l_span *key, p2l_span *value)

    void p2l_allocations_fail_after(int64_t count)
    int p2l_execute(p2l_state *state, const p2l_columns *columns, size_t start, uint64_t height,
                    uint64_t replay_window, uint64_t fee, uint8_t *codes, uint64_t *collected, size_t *next)


# Arguments -------------------------------------------------------------------------------------------------------


cdef bytes as_bytes(object value, str name):
    """The bytes of any buffer. They never change while C works on them."""
    if type(value) is bytes:
        return <bytes> value
    try:
        return memoryview(value).tobytes()
    except TypeError:
        raise TypeError(f"{name} must be bytes-like, not {type(value).__name__}") from None


cdef list as_bytes_list(object values, str name):
    """A list of its own, whatever the caller does to his meanwhile."""
    cdef list items = list(values)
    cdef Py_ssize_t i
    for i in range(len(items)):
        if type(items[i]) is not bytes:
            items[i] = as_bytes(items[i], name)
    return items


cdef inline const uint8_t *pointer(bytes data) noexcept:
    return <const uint8_t *> PyBytes_AS_STRING(data)


cdef inline bytes copied(const uint8_t *data, size_t size):
    return PyBytes_FromStringAndSize(<const char *> data, <Py_ssize_t> size)


cdef inline p2l_span span_of(bytes data) noexcept:
    cdef p2l_span span
    span.data = pointer(data)
    span.size = <size_t> PyBytes_GET_SIZE(data)
    return span


cdef p2l_span *spans_of(list items) except NULL:
    """Spans over the items, which must outlive them. The caller frees."""
    cdef p2l_span *spans = <p2l_span *> calloc(len(items) + 1, sizeof(p2l_span))
    cdef Py_ssize_t i
    if spans == NULL:
        raise MemoryError
    for i in range(len(items)):
        spans[i] = span_of(<bytes> items[i])
    return spans


cdef list gathered(object values, str name, p2l_span **spans):
    """as_bytes_list and spans_of together. Of a list or tuple of bytes every item is touched once only: they may be
    spread over more memory than the caches hold."""
    cdef list items
    cdef PyObject **given
    cdef p2l_span *out
    cdef Py_ssize_t count, i
    if type(values) is list or type(values) is tuple:
        count = len(values)
        items = PyList_New(count)  # may collect garbage, and so run anything
        if len(values) == count:
            out = spans[0] = <p2l_span *> malloc((count + 1) * sizeof(p2l_span))
            if out == NULL:
                raise MemoryError
            given = PySequence_Fast_ITEMS(values)
            for i in range(count):
                if not is_bytes(given[i]):
                    break
                out[i].data = data_of(given[i])
                out[i].size = <size_t> size_of(given[i])
                keep_item(items, i, counted(given[i]))
            else:
                return items
            free(out)
        items = None  # nobody ever sees a list with holes
    items = as_bytes_list(values, name)
    spans[0] = spans_of(items)
    return items


# Hashing and RFC 9162 trees --------------------------------------------------------------------------------------


def sha256_many(messages):
    """The SHA-256 of each message, concatenated: n x 32 bytes."""
    cdef p2l_span *spans = NULL
    cdef list items = gathered(messages, "messages", &spans)
    cdef size_t count = len(items)
    cdef bytes hashes
    cdef uint8_t *out
    try:
        hashes = PyBytes_FromStringAndSize(NULL, 32 * len(items))
        out = <uint8_t *> PyBytes_AS_STRING(hashes)
        with nogil:
            p2l_sha256_many(spans, count, out)
    finally:
        free(spans)
    return hashes


def pow_search(prefix, start, count, target):
    """The first nonce of start .. start + count - 1 that meets a target, or None."""
    cdef bytes data = as_bytes(prefix, "prefix")
    first, limit = _as_search(start, count, target)
    cdef bytes wanted = limit
    cdef const uint8_t *bytes_at = <const uint8_t *> PyBytes_AS_STRING(data)
    cdef const uint8_t *target_at = <const uint8_t *> PyBytes_AS_STRING(wanted)
    cdef size_t size = len(data)
    cdef uint64_t begin = first, some = count, nonce = 0
    cdef int found
    with nogil:
        found = p2l_pow_search(bytes_at, size, begin, some, target_at, &nonce)
    return nonce if found else None


def levels():
    """The CPU levels that this implementation can run at here, slowest first."""
    return [p2l_level_name(i).decode() for i in range(p2l_level_count()) if p2l_level_available(i)]


def level():
    """The CPU level in use."""
    return p2l_level_name(p2l_level_get()).decode()


def set_level(name):
    """Forces a CPU level; for tests and measurements. ValueError if it is not one of `levels()`."""
    for i in range(p2l_level_count()):
        if p2l_level_name(i).decode() == name and p2l_level_set(i):
            return
    raise ValueError(f"level must be one of {levels()}, not {name!r}")


def _force_hashing(int variant):
    """For tests only: SHA-256 as on another CPU (p2l.h, p2l_hashing_force); False if this one cannot."""
    return bool(p2l_hashing_force(variant))


def compiler():
    """What compiled the core: name and version; empty for the reference."""
    return p2l_compiler().decode()


def merkle_root(leaves):
    """The root of RFC 9162, section 2.1.1, over the leaves' data; of no leaves SHA-256 of nothing."""
    cdef p2l_span *spans = NULL
    cdef list items = gathered(leaves, "leaves", &spans)
    cdef size_t count = len(items)
    cdef uint8_t root[32]
    with nogil:
        p2l_merkle_root(spans, count, root)
    free(spans)
    return copied(root, 32)


def merkle_proof(leaves, index):
    """The inclusion proof of leaf `index` (RFC 9162, section 2.1.3.1): 32-byte hashes, leaf to root."""
    cdef list items = as_bytes_list(leaves, "leaves")
    cdef size_t count = len(items), at = _as_index(index, len(items), "index"), length, i
    cdef uint8_t path[64][32]
    cdef uint8_t *hashes
    cdef p2l_span *spans = spans_of(items)
    hashes = <uint8_t *> malloc(32 * count)
    if hashes == NULL:
        free(spans)
        raise MemoryError
    with nogil:
        p2l_merkle_leaves(spans, count, hashes)
        length = p2l_merkle_path(hashes, count, at, path[0])
        free(hashes)
        free(spans)
    return [copied(path[i], 32) for i in range(length)]


def merkle_verify(root, leaf, index, size, proof):
    """True if `proof` shows that `leaf` (its data) is number `index` of `size` leaves under `root`."""
    cdef bytes data = as_bytes(leaf, "leaf")
    cdef p2l_span span = span_of(data)
    cdef uint8_t leaf_hash[32]
    with nogil:
        p2l_merkle_leaves(&span, 1, leaf_hash)
    return merkle_verify_hash(root, copied(leaf_hash, 32), index, size, proof)


def merkle_verify_hash(root, leaf_hash, index, size, proof):
    """The same for a leaf of which only the hash, SHA-256(0x00 || data), is known."""
    cdef bytes wanted = as_bytes(root, "root"), leaf = as_bytes(leaf_hash, "leaf_hash"), path
    cdef list siblings = as_bytes_list(proof, "proof")
    cdef uint64_t number, total
    cdef size_t count = len(siblings)
    cdef bint verified
    _check_int(index, "index")
    _check_int(size, "size")
    if len(wanted) != 32 or len(leaf) != 32 or any([len(<bytes> sibling) != 32 for sibling in siblings]):
        return False
    if not 0 <= index < size <= _UINT64_MAX:
        return False
    number, total = index, size
    path = b"".join(siblings)
    verified = p2l_merkle_verify(pointer(wanted), pointer(leaf), number, total, pointer(path), count)
    return bool(verified)


# SHA-512 and Ed25519 ---------------------------------------------------------------------------------------------


def sha512_many(messages):
    """The SHA-512 of each message, concatenated: n x 64 bytes."""
    cdef list items = as_bytes_list(messages, "messages")
    cdef size_t count = len(items)
    cdef bytes hashes = PyBytes_FromStringAndSize(NULL, 64 * len(items))
    cdef uint8_t *out = <uint8_t *> PyBytes_AS_STRING(hashes)
    cdef p2l_span *spans = spans_of(items)
    cdef int status
    with nogil:
        status = p2l_sha512_many(spans, count, out)
    free(spans)
    if status != P2L_OK:
        raise MemoryError
    return hashes


def verify_batch(public_keys, signatures, messages):
    """n flags, 1 = valid under ZIP 215. public_keys n x 32 bytes, signatures n x 64 bytes, n messages."""
    cdef tuple checked = check_batch_arguments(public_keys, signatures, messages)
    cdef bytes keys = checked[0], both = checked[1]
    cdef list items = checked[2]
    cdef const uint8_t *first_key = pointer(keys)
    cdef const uint8_t *first_signature = pointer(both)
    cdef size_t count = len(items)
    cdef bytes flags = PyBytes_FromStringAndSize(NULL, len(items))
    cdef uint8_t *out = <uint8_t *> PyBytes_AS_STRING(flags)
    cdef p2l_span *spans = spans_of(items)
    cdef int status
    with nogil:
        status = p2l_ed25519_verify(first_key, first_signature, spans, count, out)
    free(spans)
    if status != P2L_OK:
        raise MemoryError
    return flags


def _field(int operation, operands):
    """For tests only: field operation number `operation` (ed25519_lanes.h, probe) of the level in use, in every lane.

    operands: 4 x 5 words. Returns 2 x 5 words for each lane.
    """
    cdef uint64_t words[P2L_PROBE_OPERANDS]
    cdef uint64_t results[P2L_PROBE_RESULTS]
    cdef int lanes, lane, number, i
    memset(words, 0, sizeof(words))
    lanes = p2l_ed25519_probe(0, words, results)
    for lane in range(lanes):
        for number in range(4):
            for i in range(5):
                words[(number * lanes + lane) * 5 + i] = operands[5 * number + i]
    p2l_ed25519_probe(operation, words, results)
    return [
        [results[(number * lanes + lane) * 5 + i] for number in range(2) for i in range(5)] for lane in range(lanes)
    ]


def _scalar_reduce(words):
    """For tests only: a number of 8 words modulo the order of the group, 4 words."""
    cdef uint64_t number[8]
    cdef uint64_t scalar[4]
    cdef int i
    for i in range(8):
        number[i] = words[i]
    p2l_scalar_reduce(scalar, number)
    return [scalar[i] for i in range(4)]


def _scalar_accumulate(words, z, scalar):
    """For tests only: 8 words + 2 words x 4 words, 8 words."""
    cdef uint64_t total[8]
    cdef uint64_t factors[6]
    cdef int i
    for i in range(8):
        total[i] = words[i]
    for i in range(2):
        factors[i] = z[i]
    for i in range(4):
        factors[2 + i] = scalar[i]
    p2l_scalar_accumulate(total, factors, factors + 2)
    return [total[i] for i in range(8)]


# Columns ---------------------------------------------------------------------------------------------------------


@cython.final
cdef class Columns:
    """What a scan found, one row per transaction; immutable, and holds the scanned bytes."""

    cdef p2l_columns native
    cdef bytes _data
    cdef bytes _maker
    cdef bytes _digest
    cdef bytes _maker_signature
    # Made when first asked for: most of them are needed once or never.
    cdef bytes _ids
    cdef bytes _plain
    cdef bytes _public_keys
    cdef bytes _signatures
    cdef list _messages

    def __init__(self):
        raise TypeError("columns come from scan_batch() and scan_transactions()")

    def __cinit__(self, *arguments, **named):
        self._data = self._maker = self._digest = self._maker_signature = b""
        p2l_columns_init(&self.native, NULL, 0)

    def __dealloc__(self):
        p2l_columns_free(&self.native)

    cdef p2l_row *row(self, object i) except NULL:
        cdef size_t index = _as_index(i, self.native.count, "i")
        return &self.native.rows[index]

    @property
    def count(self):
        return self.native.count

    @property
    def data(self):
        return self._data

    @property
    def ids(self):
        if self._ids is None:
            self._ids = copied(self.native.ids, 32 * self.native.count)
        return self._ids

    @property
    def plain(self):
        cdef size_t i
        if self._plain is None:
            self._plain = bytes([self.native.rows[i].plain for i in range(self.native.count)])
        return self._plain

    @property
    def signature_count(self):
        return self.native.signature_count

    @property
    def public_keys(self):
        if self._public_keys is None:
            self._public_keys = copied(self.native.public_keys, 32 * self.native.signature_count)
        return self._public_keys

    @property
    def signatures(self):
        if self._signatures is None:
            self._signatures = copied(self.native.signatures, 64 * self.native.signature_count)
        return self._signatures

    @property
    def messages(self):
        cdef size_t i
        cdef list messages
        if self._messages is None:
            messages = []
            for i in range(self.native.count):
                message = b"p2pl.ts1" + copied(self.native.ids + 32 * i, 32)
                messages.extend([message] * self.native.rows[i].signature_count)
            self._messages = messages
        return self._messages

    @property
    def maker(self):
        return self._maker

    @property
    def epoch(self):
        return self.native.epoch

    @property
    def sequence(self):
        return self.native.sequence

    @property
    def digest(self):
        return self._digest

    @property
    def maker_signature(self):
        return self._maker_signature

    def span(self, i):
        """Start and end of signed transaction i in `data`."""
        cdef p2l_row *row = self.row(i)
        return row.start, row.end

    def transaction(self, i):
        """The bytes of signed transaction i."""
        cdef p2l_row *row = self.row(i)
        return copied(self.native.data + row.start, row.end - row.start)

    def valid_until(self, i):
        """The height until which transaction i is valid."""
        return self.row(i).valid_until

    def transactions_root(self):
        """The RFC 9162 root over the bytes of the signed transactions: 32 bytes."""
        cdef uint8_t root[32]
        with nogil:
            p2l_columns_root(&self.native, root)
        return copied(root, 32)

    def signers(self, i):
        """The public keys that signed transaction i, ascending, concatenated."""
        cdef p2l_row *row = self.row(i)
        return copied(self.native.public_keys + 32 * <size_t> row.first_signature, 32 * <size_t> row.signature_count)


cdef Columns columns_over(bytes data):
    cdef Columns columns = Columns.__new__(Columns)
    columns._data = data
    p2l_columns_init(&columns.native, pointer(data), <size_t> len(data))
    return columns


cdef p2l_limits as_limits(object limits) except *:
    cdef p2l_limits native
    _check_limits(limits)
    native.transactions = limits.max_transactions
    native.operations = limits.max_operations
    native.signatures = limits.max_signatures
    native.transaction_bytes = limits.max_transaction_bytes
    native.batch_signatures = limits.max_batch_signatures
    return native


def scan_batch(data, network_id, limits):
    """Scans a *signed batch* into columns. Raises MalformedBytes; signatures are not verified."""
    cdef bytes scanned = as_bytes(data, "data"), network = _as_width(network_id, 8, "network_id")
    cdef p2l_limits bounds = as_limits(limits)
    cdef Columns columns = columns_over(scanned)
    cdef p2l_columns *native = &columns.native
    cdef const uint8_t *network_bytes = pointer(network)
    cdef int status
    with nogil:
        status = p2l_batch_scan(native, network_bytes, &bounds)
    if status == P2L_NO_MEMORY:
        raise MemoryError
    if status != P2L_OK:
        raise MalformedBytes(p2l_refusal_name(native.refusal).decode(), native.refusal_at)
    columns._maker = copied(native.data + native.maker_at, 32)
    columns._maker_signature = copied(native.data + native.maker_signature_at, 64)
    columns._digest = copied(native.digest, 32)
    return columns


def scan_transactions(data, network_id, limits):
    """Scans single signed transactions, each judged alone: the columns over the good ones, (index, code) of the bad."""
    cdef list items = as_bytes_list(data, "data"), good, refused = []
    cdef bytes network = _as_width(network_id, 8, "network_id"), joined = b"".join(items)
    cdef const uint8_t *network_bytes = pointer(network)
    cdef p2l_limits bounds = as_limits(limits)
    cdef Columns columns
    cdef p2l_columns *native
    cdef size_t count, i
    cdef size_t *sizes
    cdef int *refusals
    cdef int status
    if len(joined) > _SCAN_SIZE_MAX:
        raise ValueError(f"data must have at most {_SCAN_SIZE_MAX} bytes in all")
    # Twice where there are bad ones: the second time over the good ones alone, so that the columns have no gaps.
    while True:
        columns = columns_over(joined)
        native = &columns.native
        count = len(items)
        sizes = <size_t *> calloc(count + 1, sizeof(size_t))
        refusals = <int *> calloc(count + 1, sizeof(int))
        if sizes == NULL or refusals == NULL:
            free(sizes)
            free(refusals)
            raise MemoryError
        for i in range(count):
            sizes[i] = <size_t> PyBytes_GET_SIZE(<bytes> items[i])
        with nogil:
            status = p2l_transactions_scan(native, sizes, count, network_bytes, &bounds, refusals)
        good = []
        for i in range(count):
            if refusals[i]:
                refused.append((i, p2l_refusal_name(refusals[i]).decode()))
            else:
                good.append(items[i])
        free(sizes)
        free(refusals)
        if status != P2L_OK:
            raise MemoryError
        if <size_t> len(good) == count:
            return columns, refused
        items = good
        joined = b"".join(items)


def verify_columns(columns):
    """Verifies all signatures of scanned columns, the maker's among them, as one batch."""
    cdef Columns over
    cdef size_t maker, count
    cdef bytes flags
    cdef uint8_t *out
    cdef const p2l_columns *native
    cdef int status
    if not isinstance(columns, Columns):
        raise TypeError(f"columns must be Columns, not {type(columns).__name__}")
    over = columns
    native = &over.native
    maker, count = native.maker_signature_at > 0, native.signature_count
    flags = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> (maker + count + native.count))
    out = <uint8_t *> PyBytes_AS_STRING(flags)
    with nogil:
        status = p2l_columns_verify(native, out)
    if status != P2L_OK:
        raise MemoryError
    return Verdict(out[0] == 1 if maker else True, flags[maker + count :], flags[maker : maker + count])


def validate(data, network_id, limits):
    """Scans a *signed batch* and verifies all its signatures. Raises MalformedBytes; a bad signature is a flag."""
    columns = scan_batch(data, network_id, limits)
    return columns, verify_columns(columns)


def encode_batch(network_id, maker, epoch, sequence, transactions):
    """The unsigned batch of section 5 around the bytes of signed transactions, which are not checked here."""
    cdef list items = as_bytes_list(transactions, "transactions")
    if not items:
        raise ValueError("transactions must not be empty")
    return b"".join(
        [
            b"\x96\x01\xc4\x08",
            _as_width(network_id, 8, "network_id"),
            b"\xc4\x20",
            _as_width(maker, 32, "maker"),
            encode_uint(_as_uint64(epoch, "epoch")),
            encode_uint(_as_uint64(sequence, "sequence")),
            encode_array_head(len(items)),
            *items,
        ]
    )


cdef bytes encode_uint(uint64_t value):
    if value < 0x80:
        return bytes((value,))
    if value < 0x100:
        return b"\xcc" + int(value).to_bytes(1, "big")
    if value < 0x10000:
        return b"\xcd" + int(value).to_bytes(2, "big")
    if value < 0x100000000:
        return b"\xce" + int(value).to_bytes(4, "big")
    return b"\xcf" + int(value).to_bytes(8, "big")


cdef bytes encode_array_head(size_t count):
    if count < 16:
        return bytes((0x90 | count,))
    if count < 0x10000:
        return b"\xdc" + int(count).to_bytes(2, "big")
    return b"\xdd" + int(count).to_bytes(4, "big")


def batch_digest(batch):
    """The name of an unsigned batch: H("p2pl.ba1" || batch)."""
    cdef p2l_span span
    cdef bytes data = as_bytes(batch, "batch")
    cdef uint8_t digest[32]
    span = span_of(data)
    with nogil:
        p2l_sha256_tagged(b"p2pl.ba1", span.data, span.size, digest)
    return copied(digest, 32)


# Receipts --------------------------------------------------------------------------------------------------------


cdef size_t receipts_count(bytes ids, bytes codes) except? 0:
    if len(ids) % 32:
        raise ValueError("ids must have n x 32 bytes")
    if len(codes) != len(ids) // 8:
        raise ValueError("codes must have 4 bytes for each id")
    return <size_t> len(ids) // 32


def receipts(ids, codes):
    """The canonical receipts `[1, id, code, operation]`. ids: n x 32 bytes; codes: n x 4 bytes."""
    cdef bytes names = as_bytes(ids, "ids"), numbers = as_bytes(codes, "codes")
    cdef size_t count = receipts_count(names, numbers), i, size
    cdef uint8_t receipt[P2L_RECEIPT_MAX]
    cdef list encoded = []
    for i in range(count):
        size = p2l_receipt_encode(pointer(names) + 32 * i, pointer(numbers) + 4 * i, receipt)
        encoded.append(copied(receipt, size))
    return encoded


def receipts_root(ids, codes):
    """The RFC 9162 root over `receipts(ids, codes)`, without making them."""
    cdef bytes names = as_bytes(ids, "ids"), numbers = as_bytes(codes, "codes")
    cdef size_t count = receipts_count(names, numbers)
    cdef const uint8_t *name_bytes = pointer(names)
    cdef const uint8_t *number_bytes = pointer(numbers)
    cdef uint8_t root[32]
    with nogil:
        p2l_receipts_root(name_bytes, number_bytes, count, root)
    return copied(root, 32)


# The state tree --------------------------------------------------------------------------------------------------


cdef unsigned as_table(const p2l_state *state, object table) except? 0xffffffff:
    cdef unsigned number
    cdef int overflow = 0
    cdef long plain = -1
    if PyLong_CheckExact(table):
        plain = PyLong_AsLongAndOverflow(table, &overflow)
    number = plain if 0 <= plain < P2L_TABLES else _as_index(table, P2L_TABLES, "table")
    if p2l_state_width(state, number) == 0:
        raise ValueError(f"table {number} does not exist")
    return number


cdef bytes as_key(const p2l_state *state, unsigned table, object key):
    if type(key) is bytes and <unsigned> PyBytes_GET_SIZE(key) == p2l_state_width(state, table):
        return <bytes> key
    return _as_width(key, p2l_state_width(state, table), "key")


cdef bytes as_prefix(const p2l_state *state, unsigned table, object prefix):
    cdef bytes start = as_bytes(prefix, "prefix")
    if len(start) > <Py_ssize_t> p2l_state_width(state, table):
        raise ValueError(f"prefix must have at most {p2l_state_width(state, table)} bytes, not {len(start)}")
    return start


cdef object state_get(const p2l_state *state, object table, object key):
    cdef unsigned number = as_table(state, table)
    cdef bytes row_key = as_key(state, number, key)
    cdef p2l_span value
    if not p2l_state_get(state, number, pointer(row_key), &value):
        return None
    return copied(value.data, value.size)


cdef list state_scan(const p2l_state *state, object table, object prefix, object after, object limit):
    cdef unsigned number = as_table(state, table)
    cdef bytes start = as_prefix(state, number, prefix), last = None
    cdef const uint8_t *after_pointer = NULL
    cdef list rows = []
    cdef p2l_cursor cursor
    cdef p2l_span key, value
    cdef uint64_t most
    if after is not None:
        last = _as_width(after, p2l_state_width(state, number), "after")
        after_pointer = pointer(last)
    _check_int(limit, "limit")
    if limit < 0:
        raise ValueError("limit must not be negative")
    most = min(limit, _UINT64_MAX)
    p2l_cursor_open(&cursor, state, number, pointer(start), <size_t> len(start), after_pointer)
    while <uint64_t> len(rows) < most and p2l_cursor_next(&cursor, &key, &value):
        rows.append((copied(key.data, key.size), copied(value.data, value.size)))
    return rows


cdef object state_prove(const p2l_state *state, object table, object key):
    cdef unsigned number = as_table(state, table)
    cdef bytes row_key = as_key(state, number, key)
    cdef size_t i
    cdef p2l_proof *proof = <p2l_proof *> malloc(sizeof(p2l_proof))
    if proof == NULL:
        raise MemoryError
    try:
        p2l_state_prove(state, number, pointer(row_key), proof)
        leaf = None
        if proof.leaf_key.data != NULL:
            leaf = (
                copied(proof.leaf_key.data, proof.leaf_key.size),
                copied(proof.leaf_value.data, proof.leaf_value.size),
            )
        path = tuple([(int(proof.bits[i]), copied(proof.siblings[i], 32)) for i in range(proof.path_count)])
        return Proof(leaf, path, tuple([copied(proof.tables[i], 32) for i in range(<size_t> P2L_TABLE_HEIGHT)]))
    finally:
        free(proof)


def empty_state(key_widths):
    """A state without rows. key_widths: table (0 .. 63) -> width of its keys in bytes (1 .. 128)."""
    cdef uint8_t widths[64]
    cdef p2l_state *state
    memset(widths, 0, sizeof(widths))
    for table, width in key_widths.items():
        number = _as_index(table, P2L_TABLES, "table")
        _check_int(width, "key width")
        if not 1 <= width <= _KEY_WIDTH_MAX:
            raise ValueError(f"key width must be 1 .. {_KEY_WIDTH_MAX}, not {width}")
        widths[<unsigned> number] = width
    state = p2l_state_create(widths)
    if state == NULL:
        raise MemoryError
    return version_over(state)


def state_verify(root, table, key, value, proof):
    """True if `proof` shows under `root` that `key` has `value`, or, for None, that the table has no such key."""
    cdef bytes wanted = as_bytes(root, "root"), asked = as_bytes(key, "key"), expected = None, part
    cdef unsigned number = _as_index(table, P2L_TABLES, "table")
    cdef p2l_span value_span
    cdef p2l_proof *native
    cdef size_t i
    cdef bint verified
    value_span.data = NULL
    value_span.size = 0
    if value is not None:
        expected = as_bytes(value, "value")
        value_span = span_of(expected)
    flat = _flatten_proof(proof)
    if flat is None or len(wanted) != 32 or not 1 <= len(asked) <= _KEY_WIDTH_MAX:
        return False
    leaf, path, tables = flat
    native = <p2l_proof *> calloc(1, sizeof(p2l_proof))
    if native == NULL:
        raise MemoryError
    if leaf is not None:
        native.leaf_key = span_of(<bytes> leaf[0])
        native.leaf_value = span_of(<bytes> leaf[1])
    native.path_count = len(path)
    for i in range(native.path_count):
        native.bits[i] = path[i][0]
        part = path[i][1]
        memcpy(native.siblings[i], pointer(part), 32)
    for i in range(<size_t> P2L_TABLE_HEIGHT):
        part = tables[i]
        memcpy(native.tables[i], pointer(part), 32)
    verified = p2l_state_verify(pointer(wanted), number, span_of(asked), value_span, native)
    free(native)
    return bool(verified)


cdef object generations = 0


cdef Version version_over(p2l_state *state):
    """Takes the state over, unless it raises. Frozen from here on."""
    global generations
    cdef Version version = Version.__new__(Version)
    with nogil:
        p2l_state_hash(state)
        p2l_state_root(state, version.root_hash)
    generations += 1
    version._generation = generations
    version.state = state
    return version


@cython.final
cdef class Version:
    """A frozen state. Any thread may read it, also while another writes on a branch of it."""

    cdef object __weakref__
    cdef p2l_state *state
    cdef uint8_t root_hash[32]
    cdef object _generation
    # Reading makes Python objects, which may run other code; a release in the middle of it waits for the last reader.
    cdef int readers
    cdef bint released

    def __init__(self):
        raise TypeError("versions come from empty_state() and Branch.commit()")

    def __cinit__(self, *arguments, **named):
        self.state = NULL

    def __dealloc__(self):
        with nogil:
            p2l_state_free(self.state)

    cdef p2l_state *enter(self) except NULL:
        if self.released or self.state == NULL:
            raise StateReleased("this version of the state was released")
        self.readers += 1
        return self.state

    cdef int leave(self) except -1:
        cdef p2l_state *state
        self.readers -= 1
        if self.released and self.readers == 0:
            state = self.state
            self.state = NULL
            with nogil:
                p2l_state_free(state)
        return 0

    @property
    def generation(self):
        return self._generation

    def get(self, table, key):
        """The value of a key, or None."""
        cdef p2l_state *state = self.enter()
        try:
            return state_get(state, table, key)
        finally:
            self.leave()

    def scan(self, table, prefix=b"", after=None, limit=1000):
        """Up to `limit` (key, value) with this prefix, keys ascending, from the first key above `after` on."""
        cdef p2l_state *state = self.enter()
        try:
            return state_scan(state, table, prefix, after, limit)
        finally:
            self.leave()

    def count(self, table):
        """The number of rows of a table."""
        cdef p2l_state *state = self.enter()
        try:
            return p2l_state_count(state, as_table(state, table))
        finally:
            self.leave()

    def root(self):
        """The state root: 32 bytes."""
        self.enter()
        self.leave()
        return copied(self.root_hash, 32)

    def table_root(self, table):
        """The root of one table: 32 bytes, zeros if it is empty."""
        cdef uint8_t root[32]
        cdef p2l_state *state = self.enter()
        try:
            p2l_state_table_root(state, as_table(state, table), root)
        finally:
            self.leave()
        return copied(root, 32)

    def prove(self, table, key):
        """The proof that the key has its value, or that there is no such key."""
        cdef p2l_state *state = self.enter()
        try:
            return state_prove(state, table, key)
        finally:
            self.leave()

    def branch(self):
        """A new branch that starts with this state."""
        cdef Branch branch = Branch.__new__(Branch)
        cdef p2l_state *state = self.enter()
        try:
            branch.state = p2l_state_branch(state)
        finally:
            self.leave()
        if branch.state == NULL:
            raise MemoryError
        return branch

    def release(self):
        """Gives the memory back; every later use raises StateReleased. Releasing twice is fine."""
        if not self.released:
            self.readers += 1
            self.released = True
            self.leave()


@cython.final
cdef class Branch:
    """A state being written. It has one owner at a time; a second thread in it raises BranchInUse."""

    cdef object __weakref__
    cdef p2l_state *state
    cdef bint busy
    cdef object _fees_taken

    def __init__(self):
        raise TypeError("branches come from Version.branch()")

    def __cinit__(self, *arguments, **named):
        self.state = NULL
        self._fees_taken = 0

    def __dealloc__(self):
        with nogil:
            p2l_state_free(self.state)

    cdef p2l_state *enter(self) except NULL:
        if self.busy:
            raise BranchInUse("this branch is in use by another thread")
        if self.state == NULL:
            raise StateReleased("this branch was committed or dropped")
        self.busy = True
        return self.state

    cdef int finish(self, int status) except -1:
        """Judges what a write returned. One that ran out of memory may have done half of its work."""
        cdef p2l_state *state
        if status == P2L_NO_MEMORY:
            state = self.state
            self.state = NULL
            p2l_state_free(state)
            raise MemoryError("no memory for the state; the branch was dropped")
        return 0

    def get(self, table, key):
        """The value of a key, or None."""
        cdef p2l_state *state = self.enter()
        try:
            return state_get(state, table, key)
        finally:
            self.busy = False

    def scan(self, table, prefix=b"", after=None, limit=1000):
        """Up to `limit` (key, value) with this prefix, keys ascending, from the first key above `after` on."""
        cdef p2l_state *state = self.enter()
        try:
            return state_scan(state, table, prefix, after, limit)
        finally:
            self.busy = False

    def count(self, table):
        """The number of rows of a table."""
        cdef p2l_state *state = self.enter()
        try:
            return p2l_state_count(state, as_table(state, table))
        finally:
            self.busy = False

    def put(self, table, key, value):
        """Sets the value of a key. Values have up to 16 MiB."""
        cdef p2l_state *state = self.enter()
        cdef unsigned number
        cdef bytes row_key, row_value
        try:
            number = as_table(state, table)
            row_key = as_key(state, number, key)
            row_value = as_bytes(value, "value")
            if len(row_value) > _VALUE_SIZE_MAX:
                raise ValueError(f"value must have at most {_VALUE_SIZE_MAX} bytes")
            self.finish(
                p2l_state_put(state, number, pointer(row_key), pointer(row_value), <size_t> len(row_value))
            )
        finally:
            self.busy = False

    def delete(self, table, key):
        """Deletes a row; False if there is none."""
        cdef p2l_state *state = self.enter()
        cdef unsigned number
        cdef bytes row_key
        cdef int found = 0
        try:
            number = as_table(state, table)
            row_key = as_key(state, number, key)
            self.finish(p2l_state_delete(state, number, pointer(row_key), &found))
            return bool(found)
        finally:
            self.busy = False

    def delete_prefix(self, table, prefix):
        """Deletes all rows whose key starts so; returns their number."""
        cdef p2l_state *state = self.enter()
        cdef unsigned number
        cdef bytes start
        cdef p2l_span span
        cdef uint64_t deleted = 0
        cdef int status
        try:
            number = as_table(state, table)
            start = as_prefix(state, number, prefix)
            span = span_of(start)
            with nogil:
                status = p2l_state_delete_prefix(state, number, span.data, span.size, &deleted)
            self.finish(status)
            return deleted
        finally:
            self.busy = False

    def delete_below(self, table, key_prefix_exclusive):
        """Deletes all rows whose key is below the given (start of a) key; returns their number."""
        cdef p2l_state *state = self.enter()
        cdef unsigned number
        cdef bytes start
        cdef p2l_span span
        cdef uint64_t deleted = 0
        cdef int status
        try:
            number = as_table(state, table)
            start = as_prefix(state, number, key_prefix_exclusive)
            span = span_of(start)
            with nogil:
                status = p2l_state_delete_below(state, number, span.data, span.size, &deleted)
            self.finish(status)
            return deleted
        finally:
            self.busy = False

    def root(self):
        """The state root: 32 bytes."""
        cdef p2l_state *state = self.enter()
        cdef uint8_t root[32]
        try:
            with nogil:
                p2l_state_hash(state)
                p2l_state_root(state, root)
        finally:
            self.busy = False
        return copied(root, 32)

    def table_root(self, table):
        """The root of one table: 32 bytes, zeros if it is empty."""
        cdef p2l_state *state = self.enter()
        cdef uint8_t root[32]
        cdef unsigned number
        try:
            number = as_table(state, table)
            with nogil:
                p2l_state_hash(state)
                p2l_state_table_root(state, number, root)
        finally:
            self.busy = False
        return copied(root, 32)

    def prove(self, table, key):
        """The proof that the key has its value, or that there is no such key."""
        cdef p2l_state *state = self.enter()
        try:
            with nogil:
                p2l_state_hash(state)
            return state_prove(state, table, key)
        finally:
            self.busy = False

    @property
    def fees_taken(self):
        """What execute_plain took from the payers of fees on this branch so far."""
        return self._fees_taken

    def execute_plain(self, columns, start, height, replay_window, fee, codes):
        """Executes the maximal run of plain transactions from index `start`; returns the first it cannot decide."""
        cdef p2l_state *state = self.enter()
        cdef Columns over
        cdef const p2l_columns *native
        cdef size_t first, next_index = 0
        cdef uint64_t at_height, window, due, collected = 0
        cdef Py_buffer view
        cdef int status
        try:
            if not isinstance(columns, Columns):
                raise TypeError(f"columns must be Columns, not {type(columns).__name__}")
            over = columns
            native = &over.native
            first = _as_index(start, native.count + 1, "start")
            at_height = _as_uint64(height, "height")
            window = _as_uint64(replay_window, "replay_window")
            due = _as_uint64(fee, "fee")
            if not isinstance(codes, bytearray):
                raise TypeError(f"codes must be a bytearray, not {type(codes).__name__}")
            PyObject_GetBuffer(codes, &view, PyBUF_WRITABLE)
            try:
                if <size_t> view.len < 4 * native.count:
                    raise ValueError(f"codes must have {4 * native.count} bytes, not {view.len}")
                with nogil:
                    status = p2l_execute(
                        state, native, first, at_height, window, due, <uint8_t *> view.buf, &collected, &next_index
                    )
            finally:
                PyBuffer_Release(&view)
            if status == P2L_WRONG_TABLES:
                raise ValueError("the state lacks tables of section 7, or they have keys of other widths")
            self.finish(status)
            self._fees_taken += collected
            return next_index
        finally:
            self.busy = False

    def commit(self):
        """Freezes the branch into a version. The branch is closed after it."""
        cdef p2l_state *state = self.enter()
        cdef Version version
        try:
            version = version_over(state)
            self.state = NULL
            return version
        finally:
            self.busy = False

    def drop(self):
        """Throws the branch away. Dropping a closed branch is fine."""
        cdef p2l_state *state
        if self.busy:
            raise BranchInUse("this branch is in use by another thread")
        state = self.state
        self.state = NULL
        with nogil:
            p2l_state_free(state)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.drop()


def _fail_allocations_after(int64_t count):
    """For tests only: lets every allocation of the C core after the next `count` fail; a negative count ends it."""
    p2l_allocations_fail_after(count)
