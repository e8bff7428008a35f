/* Arithmetic modulo L = 2^252 + 27742317777372353535851937790883648493, the order of the base point. Variable time:
 * everything here is public. */

#include "ed25519.h"

static const uint64_t L[4] = {0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0, 0x1000000000000000};

/* floor(2^512 / L), for Barrett's reduction (Menezes, van Oorschot, Vanstone, Handbook of Applied Cryptography,
 * algorithm 14.42, with words of 64 bits and k = 4). */
static const uint64_t MU[5] = {0xed9ce5a30a2c131b, 0x2106215d086329a7, 0xffffffffffffffeb, 0xffffffffffffffff, 0xf};

static int is_below_order(const uint64_t number[4])
{
    for (int i = 3; i >= 0; i--)
        if (number[i] != L[i])
            return number[i] < L[i];
    return 0;
}

void p2l_scalar_load(uint64_t scalar[4], const uint8_t bytes[32])
{
    for (int i = 0; i < 4; i++)
        scalar[i] = p2l_load64_little(bytes + 8 * i);
}

int p2l_scalar_is_reduced(const uint8_t bytes[32])
{
    uint64_t number[4];
    p2l_scalar_load(number, bytes);
    return is_below_order(number);
}

/* number -= subtrahend over `size` words; returns the borrow. */
static uint64_t subtract(uint64_t *number, const uint64_t *subtrahend, int size)
{
    uint64_t borrow = 0;
    for (int i = 0; i < size; i++) {
        uint64_t before = number[i], difference = before - subtrahend[i];
        number[i] = difference - borrow;
        borrow = (before < subtrahend[i]) | (difference < borrow);
    }
    return borrow;
}

void p2l_scalar_reduce(uint64_t scalar[4], const uint64_t number[8])
{
    /* The quotient's estimate, at most two too small. */
    uint64_t product[10] = {0};
    for (int i = 0; i < 5; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < 5; j++)
            product[i + j] = p2l_multiply_add(number[3 + i], MU[j], product[i + j], &carry);
        product[i + 5] = carry;
    }
    const uint64_t *quotient = product + 5;
    /* The remainder is below 3 L < 2^254, so that five words modulo 2^320 tell it. */
    uint64_t multiple[5] = {0}, rest[5];
    for (int i = 0; i < 5; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < 4 && i + j < 5; j++)
            multiple[i + j] = p2l_multiply_add(quotient[i], L[j], multiple[i + j], &carry);
        if (i == 0)
            multiple[4] = carry;
    }
    memcpy(rest, number, sizeof rest);
    subtract(rest, multiple, 5);
    while (!is_below_order(rest))
        subtract(rest, L, 4);
    memcpy(scalar, rest, 4 * sizeof *scalar);
}

void p2l_scalar_accumulate(uint64_t sum[8], const uint64_t z[2], const uint64_t scalar[4])
{
    for (int i = 0; i < 2; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < 4; j++)
            sum[i + j] = p2l_multiply_add(z[i], scalar[j], sum[i + j], &carry);
        for (int j = i + 4; j < 8 && carry != 0; j++) {
            sum[j] += carry;
            carry = sum[j] < carry;
        }
    }
}

void p2l_scalar_negate(uint64_t scalar[4])
{
    uint64_t negative[4];
    if ((scalar[0] | scalar[1] | scalar[2] | scalar[3]) == 0)
        return;
    memcpy(negative, L, sizeof negative);
    subtract(negative, scalar, 4);
    memcpy(scalar, negative, sizeof negative);
}
