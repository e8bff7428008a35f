/* Generated from the forms in p2pledger/primitives by `make forms`; do not edit. */

#ifndef P2L_FORMS_H
#define P2L_FORMS_H

/* transfer */
static const struct field FORM_1[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* lock */
static const struct field FORM_2[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 32, 32},
};

/* release */
static const struct field FORM_3[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 32, 32},
};

/* issue */
static const struct field FORM_4[] = {
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* redeem */
static const struct field FORM_5[] = {
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* define */
static const struct field FORM_6[] = {
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 1},
    {FIELD_NUMBER, 0, 0, 18},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_TEXT, 0, 1, 64},
};

/* open */
static const struct field FORM_7[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_POLICY, 0, 0, 0},
};

/* set_policy */
static const struct field FORM_8[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_POLICY, 0, 0, 0},
};

/* pay */
static const struct field FORM_9[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* stake */
static const struct field FORM_10[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_BYTES, 0, 32, 32},
};

/* unstake */
static const struct field FORM_11[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
};

/* set_finality */
static const struct field FORM_12[] = {
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* set_validators */
static const struct field FORM_13[] = {
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_ASCENDING_LIST, 4, 1, 1024},
        {FIELD_RECORD, 0, 0, 3},
            {FIELD_BYTES, 0, 32, 32},
            {FIELD_NUMBER, 0, 1, 4294967295u},
            {FIELD_TEXT, 0, 0, 64},
    {FIELD_ASCENDING_LIST, 3, 1, 1024},
        {FIELD_RECORD, 0, 0, 2},
            {FIELD_BYTES, 0, 32, 32},
            {FIELD_BYTES, 0, 64, 64},
};

/* report */
static const struct field FORM_14[] = {
    {FIELD_BYTES, 0, 1, 1024},
    {FIELD_BYTES, 0, 1, 1024},
};

static const struct form FORMS[] = {
    [1] = {FORM_1, 4},
    [2] = {FORM_2, 4},
    [3] = {FORM_3, 4},
    [4] = {FORM_4, 3},
    [5] = {FORM_5, 3},
    [6] = {FORM_6, 5},
    [7] = {FORM_7, 3},
    [8] = {FORM_8, 2},
    [9] = {FORM_9, 3},
    [10] = {FORM_10, 4},
    [11] = {FORM_11, 2},
    [12] = {FORM_12, 2},
    [13] = {FORM_13, 3},
    [14] = {FORM_14, 2},
};

#endif
