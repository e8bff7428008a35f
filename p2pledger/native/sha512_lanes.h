/* The compression of SHA-512 (FIPS 180-4, section 6.4.2), written once for all levels: as many messages side by side
 * as the level has lanes. The including file defines `word`, the operations on it, and how it loads and stores. */

static void LEVEL(p2l_sha512_compress)(uint64_t (*state)[P2L_LANES_MAX], const uint8_t *const *blocks, unsigned mask)
{
    word w[16], s[8];
    load_block(w, blocks);
    load_state(s, state);
    word a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    for (int i = 0; i < 80; i += 16) {
#pragma GCC unroll 16
        for (int j = 0; j < 16; j++) {
            word sum1 = WORD_XOR3(WORD_ROTATE(e, 14), WORD_ROTATE(e, 18), WORD_ROTATE(e, 41));
            word sum0 = WORD_XOR3(WORD_ROTATE(a, 28), WORD_ROTATE(a, 34), WORD_ROTATE(a, 39));
            word t = WORD_ADD(WORD_ADD(h, WORD_CONSTANT(p2l_sha512_rounds[i + j])), WORD_ADD(w[j], sum1));
            t = WORD_ADD(t, WORD_CHOOSE(e, f, g));
            word u = WORD_ADD(sum0, WORD_MAJORITY(a, b, c));
            h = g;
            g = f;
            f = e;
            e = WORD_ADD(d, t);
            d = c;
            c = b;
            b = a;
            a = WORD_ADD(t, u);
            if (i < 64) {
                /* The word that is due sixteen rounds later takes the place of the one just used. */
                word w1 = w[(j + 1) & 15], w14 = w[(j + 14) & 15];
                word low = WORD_XOR3(WORD_ROTATE(w1, 1), WORD_ROTATE(w1, 8), WORD_SHIFT(w1, 7));
                word high = WORD_XOR3(WORD_ROTATE(w14, 19), WORD_ROTATE(w14, 61), WORD_SHIFT(w14, 6));
                w[j] = WORD_ADD(WORD_ADD(w[j], low), WORD_ADD(w[(j + 9) & 15], high));
            }
        }
    }
    s[0] = a;
    s[1] = b;
    s[2] = c;
    s[3] = d;
    s[4] = e;
    s[5] = f;
    s[6] = g;
    s[7] = h;
    add_to_state(state, s, mask);
}
