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

/* register_party */
static const struct field FORM_32[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_TEXT, 0, 1, 64},
    {FIELD_TEXT, 0, 0, 20},
    {FIELD_TEXT, 0, 2, 2},
    {FIELD_ASCENDING_LIST, 1, 1, 10},
        {FIELD_NUMBER, 0, 0, 10},
};

/* register_account */
static const struct field FORM_33[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 0, 2},
    {FIELD_NUMBER, 0, 0, 2},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
};

/* allocate */
static const struct field FORM_34[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* set_permission */
static const struct field FORM_35[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_TEXT, 0, 1, 32},
    {FIELD_NUMBER, 0, 0, 1},
    {FIELD_NUMBER, 0, 0, 10},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_ASCENDING_LIST, 1, 1, 64},
        {FIELD_NUMBER, 0, 1, 65535},
    {FIELD_TEXT, 0, 0, 6},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 4},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* drop_permission */
static const struct field FORM_36[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_TEXT, 0, 1, 32},
};

/* describe */
static const struct field FORM_37[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 1},
    {FIELD_TEXT, 0, 6, 6},
    {FIELD_TEXT, 0, 0, 4},
    {FIELD_TEXT, 0, 1, 16},
    {FIELD_TEXT, 0, 3, 3},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 0, 4294967295u},
    {FIELD_NUMBER, 0, 0, 4294967295u},
    {FIELD_TEXT, 0, 1, 64},
    {FIELD_LIST, 1, 0, 16},
        {FIELD_BYTES, 0, 32, 32},
};

/* set_status */
static const struct field FORM_38[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 1},
};

/* accredit */
static const struct field FORM_39[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* set_venue */
static const struct field FORM_40[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_SWITCH, 0, 0, 0},
};

/* set_holder_rules */
static const struct field FORM_41[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_ASCENDING_LIST, 1, 0, 8},
        {FIELD_TEXT, 0, 1, 16},
    {FIELD_ASCENDING_LIST, 1, 0, 8},
        {FIELD_TEXT, 0, 1, 16},
    {FIELD_ASCENDING_LIST, 1, 0, 256},
        {FIELD_TEXT, 0, 2, 2},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 0, 1000000},
};

/* trust_issuer */
static const struct field FORM_42[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_TEXT, 0, 1, 16},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_SWITCH, 0, 0, 0},
};

/* issue_claim */
static const struct field FORM_43[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_TEXT, 0, 1, 16},
    {FIELD_TEXT, 0, 0, 64},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* revoke_claim */
static const struct field FORM_44[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_TEXT, 0, 1, 16},
};

/* instruct */
static const struct field FORM_50[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 1},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_TEXT, 0, 0, 35},
    {FIELD_NUMBER, 0, 0, 4294967295u},
    {FIELD_NUMBER, 0, 0, 4294967295u},
    {FIELD_TEXT, 0, 0, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 1, 2048},
    {FIELD_LIST, 5, 0, 600},
        {FIELD_RECORD, 0, 0, 4},
            {FIELD_BYTES, 0, 32, 32},
            {FIELD_BYTES, 0, 32, 32},
            {FIELD_BYTES, 0, 16, 16},
            {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* add_legs */
static const struct field FORM_51[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 0, 2048},
    {FIELD_LIST, 5, 1, 600},
        {FIELD_RECORD, 0, 0, 4},
            {FIELD_BYTES, 0, 32, 32},
            {FIELD_BYTES, 0, 32, 32},
            {FIELD_BYTES, 0, 16, 16},
            {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* affirm */
static const struct field FORM_52[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
};

/* set_hold */
static const struct field FORM_53[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_SWITCH, 0, 0, 0},
};

/* cancel */
static const struct field FORM_54[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
};

/* lock_instruction */
static const struct field FORM_55[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
};

/* settle */
static const struct field FORM_56[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
};

/* place_offer */
static const struct field FORM_57[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 1, 18446744073709551615u},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
};

/* take_offer */
static const struct field FORM_58[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 1, 18446744073709551615u},
};

/* withdraw_offer */
static const struct field FORM_59[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
};

/* set_calendar */
static const struct field FORM_60[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_TEXT, 0, 1, 16},
    {FIELD_NUMBER, 0, 0, 2880},
    {FIELD_ASCENDING_LIST, 1, 0, 6},
        {FIELD_NUMBER, 0, 0, 6},
    {FIELD_ASCENDING_LIST, 1, 0, 1024},
        {FIELD_NUMBER, 0, 0, 4294967295u},
    {FIELD_NUMBER, 0, 0, 1439},
    {FIELD_NUMBER, 0, 0, 1440},
    {FIELD_NUMBER, 0, 0, 1439},
    {FIELD_NUMBER, 0, 0, 1},
};

/* authorise_venue */
static const struct field FORM_61[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_SWITCH, 0, 0, 0},
};

/* authorise_money */
static const struct field FORM_65[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 1},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 16},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* attest */
static const struct field FORM_66[] = {
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 32, 32},
};

/* pay_across */
static const struct field FORM_67[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_SWITCH, 0, 0, 0},
};

/* release_payment */
static const struct field FORM_68[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
};

/* cancel_payment */
static const struct field FORM_69[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
};

/* quarantine */
static const struct field FORM_70[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_SWITCH, 0, 0, 0},
    {FIELD_BYTES, 0, 32, 32},
};

/* set_payment_policy */
static const struct field FORM_71[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_TEXT, 0, 3, 3},
    {FIELD_SWITCH, 0, 0, 0},
};

/* agree_link */
static const struct field FORM_72[] = {
    {FIELD_BYTES, 0, 4, 4},
    {FIELD_BYTES, 0, 4, 4},
    {FIELD_BYTES, 0, 12, 12},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* end_link */
static const struct field FORM_73[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 4, 4},
    {FIELD_BYTES, 0, 4, 4},
    {FIELD_BYTES, 0, 12, 12},
};

/* cross */
static const struct field FORM_74[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_BYTES, 0, 4, 4},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 16, 16},
};

/* reconcile */
static const struct field FORM_75[] = {
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 4294967295u},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 32, 32},
};

/* order */
static const struct field FORM_80[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 4},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_LIST, 1, 0, 5},
        {FIELD_NUMBER, 0, 0, 4},
    {FIELD_SWITCH, 0, 0, 0},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
};

/* appeal */
static const struct field FORM_81[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
};

/* open_escrow */
static const struct field FORM_82[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_BYTES, 0, 16, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_ASCENDING_LIST, 1, 0, 16},
        {FIELD_BYTES, 0, 32, 32},
    {FIELD_NUMBER, 0, 0, 16},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
    {FIELD_BYTES_OR_NOTHING, 0, 0, 32},
    {FIELD_NUMBER, 0, 0, 18446744073709551615u},
};

/* fulfil_escrow */
static const struct field FORM_83[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_ASCENDING_LIST, 1, 0, 16},
        {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 0, 256},
};

/* return_escrow */
static const struct field FORM_84[] = {
    {FIELD_BYTES, 0, 32, 32},
    {FIELD_BYTES, 0, 32, 32},
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
    [32] = {FORM_32, 6},
    [33] = {FORM_33, 6},
    [34] = {FORM_34, 5},
    [35] = {FORM_35, 11},
    [36] = {FORM_36, 2},
    [37] = {FORM_37, 12},
    [38] = {FORM_38, 3},
    [39] = {FORM_39, 3},
    [40] = {FORM_40, 4},
    [41] = {FORM_41, 7},
    [42] = {FORM_42, 4},
    [43] = {FORM_43, 5},
    [44] = {FORM_44, 3},
    [50] = {FORM_50, 11},
    [51] = {FORM_51, 4},
    [52] = {FORM_52, 3},
    [53] = {FORM_53, 3},
    [54] = {FORM_54, 2},
    [55] = {FORM_55, 2},
    [56] = {FORM_56, 2},
    [57] = {FORM_57, 9},
    [58] = {FORM_58, 3},
    [59] = {FORM_59, 2},
    [60] = {FORM_60, 9},
    [61] = {FORM_61, 3},
    [65] = {FORM_65, 7},
    [66] = {FORM_66, 4},
    [67] = {FORM_67, 8},
    [68] = {FORM_68, 2},
    [69] = {FORM_69, 2},
    [70] = {FORM_70, 4},
    [71] = {FORM_71, 3},
    [72] = {FORM_72, 5},
    [73] = {FORM_73, 4},
    [74] = {FORM_74, 5},
    [75] = {FORM_75, 4},
    [80] = {FORM_80, 15},
    [81] = {FORM_81, 3},
    [82] = {FORM_82, 11},
    [83] = {FORM_83, 3},
    [84] = {FORM_84, 2},
};

#endif
