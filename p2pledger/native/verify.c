/* The signatures of scanned columns: who signed what, as one batch for p2l_ed25519_verify. */

#include "internal.h"

#include <stdlib.h>

enum { SIGNED = 8 + 32 }; /* a tag and the hash of what is signed (protocol.md, section 2) */

static void signed_message(uint8_t message[SIGNED], const char tag[8], const uint8_t hash[32])
{
    memcpy(message, tag, 8);
    memcpy(message + 8, hash, 32);
}

int p2l_columns_verify(const struct p2l_columns *columns, uint8_t *flags)
{
    size_t maker = columns->maker_signature_at > 0, count = maker + columns->signature_count, at = 0;
    uint8_t *public_keys = p2l_allocate(32 * count + 1), *signatures = p2l_allocate(64 * count + 1);
    uint8_t *messages = p2l_allocate(SIGNED * (maker + columns->count) + 1), *transaction_flags = flags + count;
    struct p2l_span *spans = p2l_allocate(count * sizeof *spans + 1);
    int status = P2L_NO_MEMORY;

    if (public_keys != NULL && signatures != NULL && messages != NULL && spans != NULL) {
        if (maker) {
            memcpy(public_keys, columns->data + columns->maker_at, 32);
            memcpy(signatures, columns->data + columns->maker_signature_at, 64);
            signed_message(messages, "p2pl.bs1", columns->digest);
            spans[at++] = (struct p2l_span){messages, SIGNED};
        }
        if (columns->signature_count > 0) {
            memcpy(public_keys + 32 * maker, columns->public_keys, 32 * columns->signature_count);
            memcpy(signatures + 64 * maker, columns->signatures, 64 * columns->signature_count);
        }
        for (size_t i = 0; i < columns->count; i++) {
            uint8_t *message = messages + SIGNED * (maker + i);
            signed_message(message, "p2pl.ts1", columns->ids + 32 * i);
            for (uint32_t k = 0; k < columns->rows[i].signature_count; k++)
                spans[at++] = (struct p2l_span){message, SIGNED};
        }
        status = p2l_ed25519_verify(public_keys, signatures, spans, count, flags);
    }
    free(public_keys);
    free(signatures);
    free(messages);
    free(spans);
    if (status != P2L_OK)
        return status;
    flags += maker;
    for (size_t i = 0; i < columns->count; i++) {
        const struct p2l_row *row = &columns->rows[i];
        transaction_flags[i] = 1;
        for (uint32_t k = 0; k < row->signature_count; k++)
            transaction_flags[i] &= flags[row->first_signature + k];
    }
    return P2L_OK;
}
