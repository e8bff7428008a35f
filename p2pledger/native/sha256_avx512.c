/* SHA-256 of sixteen messages side by side in AVX-512 (F, BW, VL): word i of all sixteen in one register, so that a
 * round is a round of FIPS 180-4 written once. Rotations are one instruction, and so are the choice and the majority
 * (vpternlogd). What the lanes cost beside the rounds is the turning of sixteen rows of sixteen words into columns.
 *
 * Nothing is copied on the way in: a row is loaded from where the message lies, under a mask where it begins with the
 * tag or ends with the message (what a mask hides is not read, and may not even exist), and its padding is put in on
 * the way. And nothing is computed twice: sixteen messages of one length whose last block is padding alone share all
 * words of that block, so they come as a table with the rounds' constants in it, and only the rounds are left. */

#include "internal.h"

#ifdef P2L_X86_64

#pragma GCC target("avx512f,avx512bw,avx512vl")
#include <immintrin.h>

enum { LANES = 16 };

#define ROTATE(x, by) _mm512_ror_epi32(x, by)
#define ADD(x, y) _mm512_add_epi32(x, y)
/* The truth tables of a ^ b ^ c, (a & b) ^ (~a & c), and (a & b) ^ (a & c) ^ (b & c). */
#define XOR3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define CHOOSE(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xca)
#define MAJORITY(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xe8)

static inline __m512i small_sigma0(__m512i x)
{
    return XOR3(ROTATE(x, 7), ROTATE(x, 18), _mm512_srli_epi32(x, 3));
}

static inline __m512i small_sigma1(__m512i x)
{
    return XOR3(ROTATE(x, 17), ROTATE(x, 19), _mm512_srli_epi32(x, 10));
}

static inline __m512i swap_bytes(__m512i x)
{
    return _mm512_shuffle_epi8(x, _mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203));
}

/* Rows become columns: word j of row i goes to lane i of w[j]. */
static inline __attribute__((always_inline)) void transpose(__m512i w[16])
{
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(w[i], w[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(w[i], w[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        w[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        w[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        w[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        w[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* w[4r + c] holds, in its quarter q, word 4q + c of rows 4r .. 4r + 3. */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512i even_low = _mm512_shuffle_i32x4(w[c], w[4 + c], 0x88), odd_low = _mm512_shuffle_i32x4(w[c], w[4 + c], 0xdd);
        __m512i even_high = _mm512_shuffle_i32x4(w[8 + c], w[12 + c], 0x88);
        __m512i odd_high = _mm512_shuffle_i32x4(w[8 + c], w[12 + c], 0xdd);
        t[c] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
        t[8 + c] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        t[4 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        t[12 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        w[i] = t[i];
}

/* What is known beforehand of a block's words. */
enum words {
    ANY_WORDS,
    ENDS_ONLY, /* w[1] .. w[14] are zero, as in the last block of a node's hash: what they would add is left out */
    NO_WORDS, /* the words are the same in all lanes: `rounds` has them in it, and w is not looked at */
};

/* One compression; `rounds` holds what round t adds in all lanes alike. */
static inline __attribute__((always_inline)) void compress(__m512i s[8], __m512i w[16], const uint32_t rounds[64],
                                                           const enum words known)
{
    __m512i a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
#define ZERO(t) (known == ENDS_ONLY && (t) >= 1 && (t) <= 14)
#pragma GCC unroll 64
    for (int t = 0; t < 64; t++) {
        __m512i t1 = ADD(h, _mm512_set1_epi32((int)rounds[t])), t2;
        if (t >= 16 && known != NO_WORDS) {
            /* w[t & 15] is word t - 16, for which word t is put. */
            __m512i next = ZERO(t - 16) ? _mm512_setzero_si512() : w[t & 15];
            if (!ZERO(t - 15))
                next = ADD(next, small_sigma0(w[(t - 15) & 15]));
            if (!ZERO(t - 7))
                next = ADD(next, w[(t - 7) & 15]);
            if (!ZERO(t - 2))
                next = ADD(next, small_sigma1(w[(t - 2) & 15]));
            w[t & 15] = next;
        }
        if (known != NO_WORDS && !ZERO(t))
            t1 = ADD(t1, w[t & 15]);
        t1 = ADD(t1, ADD(XOR3(ROTATE(e, 6), ROTATE(e, 11), ROTATE(e, 25)), CHOOSE(e, f, g)));
        t2 = ADD(XOR3(ROTATE(a, 2), ROTATE(a, 13), ROTATE(a, 22)), MAJORITY(a, b, c));
        h = g;
        g = f;
        f = e;
        e = ADD(d, t1);
        d = c;
        c = b;
        b = a;
        a = ADD(t1, t2);
    }
#undef ZERO
    s[0] = ADD(s[0], a);
    s[1] = ADD(s[1], b);
    s[2] = ADD(s[2], c);
    s[3] = ADD(s[3], d);
    s[4] = ADD(s[4], e);
    s[5] = ADD(s[5], f);
    s[6] = ADD(s[6], g);
    s[7] = ADD(s[7], h);
}

void p2l_sha256_lanes_avx512(uint32_t *states, const uint8_t *const *blocks, size_t count)
{
    const uint8_t *at[LANES];
    __m512i s[8], w[16];
    memcpy(at, blocks, sizeof at);
    for (int i = 0; i < 8; i++)
        s[i] = _mm512_loadu_si512(states + LANES * i);
    for (; count > 0; count--) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            w[i] = swap_bytes(_mm512_loadu_si512(at[i]));
            at[i] += 64;
        }
        transpose(w);
        compress(s, w, P2L_SHA256_ROUND, ANY_WORDS);
    }
    for (int i = 0; i < 8; i++)
        _mm512_storeu_si512(states + LANES * i, s[i]);
}

static inline __attribute__((always_inline)) void state_start(__m512i s[8])
{
    for (int i = 0; i < 8; i++)
        s[i] = _mm512_set1_epi32((int)P2L_SHA256_START[i]);
}

/* The states as hashes, that of lane i to hash[i]. */
static inline __attribute__((always_inline)) void state_finish(const __m512i s[8], uint8_t *const hash[LANES])
{
    const __m512i low = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), high = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    __m512i w[8], t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_epi32(s[i], s[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(s[i], s[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        w[i] = swap_bytes(_mm512_unpacklo_epi64(t[i], t[i + 2]));
        w[i + 1] = swap_bytes(_mm512_unpackhi_epi64(t[i], t[i + 2]));
        w[i + 2] = swap_bytes(_mm512_unpacklo_epi64(t[i + 1], t[i + 3]));
        w[i + 3] = swap_bytes(_mm512_unpackhi_epi64(t[i + 1], t[i + 3]));
    }
    /* w[c] and w[4 + c] hold, in their quarters q, the halves of the hash of lane 4q + c. */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512i first = _mm512_permutex2var_epi64(w[c], low, w[4 + c]);
        __m512i last = _mm512_permutex2var_epi64(w[c], high, w[4 + c]);
        _mm256_storeu_si256((__m256i *)hash[c], _mm512_castsi512_si256(first));
        _mm256_storeu_si256((__m256i *)hash[4 + c], _mm512_extracti64x4_epi64(first, 1));
        _mm256_storeu_si256((__m256i *)hash[8 + c], _mm512_castsi512_si256(last));
        _mm256_storeu_si256((__m256i *)hash[12 + c], _mm512_extracti64x4_epi64(last, 1));
    }
}

/* Of a row: which of its bytes are data, and after which the message ends. `size` is that of tag and data, `start`
 * where the row begins in them; `tag_size` is 0 in all blocks but the first. */
struct row {
    __mmask64 data, end;
};

static inline struct row row_of(uint64_t size, uint64_t start, size_t tag_size)
{
    struct row row = {0, 0};
    if (start + 64 <= size) {
        row.data = ~(__mmask64)0;
    } else if (start <= size) {
        row.end = (__mmask64)1 << (size - start);
        row.data = row.end - 1;
    }
    row.data &= ~(((__mmask64)1 << tag_size) - 1);
    return row;
}

void p2l_sha256_abreast_avx512(const uint8_t *tag, size_t tag_size, const struct p2l_message *messages, int one_size,
                               const uint32_t *padding)
{
    const __m512i end = _mm512_set1_epi8((char)0x80);
    const uint64_t blocks = p2l_sha256_blocks(tag_size + (uint64_t)messages[0].size);
    uint64_t shortest = messages[0].size; /* all of its blocks that are full are full in all lanes */
    uint8_t *hashes[LANES];
    __m512i s[8], w[16];

    for (size_t i = 1; i < LANES && !one_size; i++)
        shortest = messages[i].size < shortest ? messages[i].size : shortest;
    state_start(s);
    for (uint64_t block = 0, start = 0; block < blocks - (padding != NULL); block++, start += 64) {
        const size_t tagged = block == 0 ? tag_size : 0;
        const uint64_t offset = start - tag_size; /* below zero in the first block, where a mask hides the beginning */
        if (tagged == 0 && start + 64 <= tag_size + shortest) {
#pragma GCC unroll 16
            for (size_t i = 0; i < LANES; i++)
                w[i] = swap_bytes(_mm512_loadu_si512(messages[i].data + offset));
        } else {
            const __m512i before = _mm512_maskz_loadu_epi8(((__mmask64)1 << tagged) - 1, tag);
            struct row row = row_of(tag_size + shortest, start, tagged);
#pragma GCC unroll 16
            for (size_t i = 0; i < LANES; i++) {
                const struct p2l_message *message = &messages[i];
                if (!one_size)
                    row = row_of(tag_size + (uint64_t)message->size, start, tagged);
                w[i] = _mm512_mask_loadu_epi8(before, row.data, (const void *)((uintptr_t)message->data + offset));
                w[i] = swap_bytes(_mm512_mask_mov_epi8(w[i], row.end, end));
            }
        }
        transpose(w);
        if (block == blocks - 1 && one_size) {
            w[14] = _mm512_set1_epi32((int)((tag_size + shortest) >> 29));
            w[15] = _mm512_set1_epi32((int)((tag_size + shortest) << 3));
        } else if (block == blocks - 1) {
            uint32_t bits[2][LANES];
            for (size_t i = 0; i < LANES; i++) {
                const uint64_t size = tag_size + (uint64_t)messages[i].size;
                bits[0][i] = (uint32_t)(size >> 29);
                bits[1][i] = (uint32_t)(size << 3);
            }
            w[14] = _mm512_loadu_si512(bits[0]);
            w[15] = _mm512_loadu_si512(bits[1]);
        }
        compress(s, w, P2L_SHA256_ROUND, ANY_WORDS);
    }
    if (padding != NULL)
        compress(s, w, padding, NO_WORDS);
    for (size_t i = 0; i < LANES; i++)
        hashes[i] = messages[i].hash;
    state_finish(s, hashes);
}

/* A node hashes `tag` (1 or 3 bytes) || left (32) || right (32): its words are those of left and right, moved on by the
 * tag, and the last 1 or 3 bytes make a second block, in which nothing else differs between nodes. */
static inline __attribute__((always_inline)) void nodes(const struct p2l_pair *pairs, const int tag_size)
{
    const int down = 8 * tag_size, up = 32 - down;
    const __m512i end = _mm512_set1_epi32((int)(0x80000000u >> down));
    __m512i w[16], s[8], before;
    uint8_t *hashes[LANES];

#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        const struct p2l_pair *pair = &pairs[i];
        __m256i left = _mm256_loadu_si256((const __m256i *)pair->left);
        __m256i right = _mm256_loadu_si256((const __m256i *)pair->right);
        w[i] = swap_bytes(_mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1));
    }
    transpose(w);
    before = _mm512_set1_epi32((int)pairs[0].tag);
    if (tag_size > 1) {
        uint32_t tags[LANES];
        for (size_t i = 0; i < LANES; i++)
            tags[i] = pairs[i].tag;
        before = _mm512_loadu_si512(tags);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        __m512i word = w[i];
        w[i] = _mm512_or_si512(_mm512_slli_epi32(before, up), _mm512_srli_epi32(word, down));
        before = word;
    }
    state_start(s);
    compress(s, w, P2L_SHA256_ROUND, ANY_WORDS);
    w[0] = _mm512_or_si512(_mm512_slli_epi32(before, up), end);
    w[15] = _mm512_set1_epi32(512 + down);
    compress(s, w, P2L_SHA256_ROUND, ENDS_ONLY);
    for (size_t i = 0; i < LANES; i++)
        hashes[i] = pairs[i].hash;
    state_finish(s, hashes);
}

/* Parents may be written over their own children, but not over those of a pair behind them in the same sixteen: all
 * children are read before the first parent is written. */
void p2l_sha256_nodes_avx512(const struct p2l_pair *pairs, int tag_size)
{
    if (tag_size == 1)
        nodes(pairs, 1);
    else
        nodes(pairs, 3);
}

#else
typedef int p2l_nothing_here; /* An empty file is not C. */
#endif
