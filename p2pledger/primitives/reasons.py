"""Reason codes: why a transaction was refused. One table for Python, C and the documentation.

Codes below 100 stand in receipts and are part of the protocol (docs/protocol.md, section 4.2): they never change
their meaning. Codes from 100 on are answers at the edge, given before anything reached the ledger.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["MOST_RULE_BYTES", "REASONS", "WHOLE_TRANSACTION", "Reason", "rule_named", "sentence_of"]

WHOLE_TRANSACTION: Final = 65535
"""The operation index of a receipt whose reason concerns the whole transaction."""

MOST_RULE_BYTES: Final = 64
"""The longest name of a rule that goes with a receipt, in UTF-8."""

REASONS: Final[tuple[tuple[int, str, str], ...]] = (
    (0, "ok", "All operations were executed."),
    (1, "expired", "The height up to which the transaction was valid has passed."),
    (2, "too_far_ahead", "The transaction is valid for longer than the replay window allows."),
    (3, "duplicate", "The same transaction was executed before."),
    (4, "fee_too_low", "The fee exceeds the largest fee that the payer allows."),
    (5, "unauthorised", "The signatures do not satisfy the policy of an account that must sign."),
    (6, "unknown_account", "An account that is named does not exist."),
    (7, "unknown_asset", "An asset that is named does not exist."),
    (8, "insufficient_free", "The free holding is smaller than the amount."),
    (
        9,
        "insufficient_locked",
        "The amount locked under this controller is smaller than the amount to release.",
    ),
    (10, "zero_amount", "An amount of zero moves nothing."),
    (11, "same_account", "Both sides are the same account."),
    (12, "overflow", "A balance or the supply would exceed 64 bits."),
    (13, "asset_exists", "An asset of this name exists."),
    (14, "bad_isin", "The instrument is not a valid ISIN (ISO 6166 characters and check digit)."),
    (15, "bad_currency", "The instrument is not a three-letter currency code."),
    (16, "unknown_register", "The register does not exist."),
    (17, "account_exists", "An account of this identifier exists."),
    (18, "bad_policy_version", "The policy does not carry the next version."),
    (19, "restricted", "An account or asset is under a restriction that this operation does not allow."),
    (20, "cannot_pay_fee", "The native money of the fee payer is smaller than the fee."),
    (21, "insufficient_native", "The native money of the account is smaller than the amount."),
    (22, "unknown_stake", "The account has no such stake."),
    (23, "stake_exists", "A stake of this identifier exists."),
    (24, "bad_evidence", "The two statements do not show that one key contradicted itself."),
    (25, "already_reported", "This key was reported for this epoch before."),
    (26, "bad_epoch", "Validators are set for the epoch after the next, and only once."),
    (27, "too_few_approvals", "The valid approvals of the present validators do not reach the quorum."),
    (28, "bad_seats", "A key among the new validators was found to contradict itself."),
    (29, "wrong_engine", "The engine of this network has no use for this operation."),
    (30, "insufficient_encumbered", "What this object holds of the holding is smaller than the amount."),
    (34, "not_permitted", "A rule of the network or a permission does not allow this to who asks for it."),
    (35, "unknown_party", "A party that is named does not exist, or an account belongs to none."),
    (36, "bad_party", "The LEI, the country, the roles or the name of a party are not valid."),
    (37, "bad_custody", "The tier, the kind, the custodian or the upper account do not fit each other."),
    (38, "already_registered", "Somebody else has registered this, or the account has an owner."),
    (39, "insufficient_allocation", "The share in the omnibus account is smaller than the amount."),
    (40, "bad_permission", "No permission can name this operation or scope, or there are too many."),
    (41, "unknown_record", "There is no such permission, claim or description."),
    (42, "bad_description", "The description is not valid, or is fixed while the instrument is active."),
    (43, "looks_alike", "The name would be taken for another one."),
    (44, "inactive", "The instrument is not active."),
    (45, "above_issue_size", "More would be issued than the issue size of the instrument."),
    (46, "not_accredited", "The issuer is not accredited at this time."),
    (47, "ineligible", "A condition for holding this asset is not met."),
    (48, "holder_limit", "There would be too many holders of the asset, or one with too large a share."),
    (49, "venue_off", "The venue is switched off for this asset."),
    (50, "unknown_instruction", "An instruction that is named does not exist."),
    (51, "identifier_used", "An object of this maker and salt exists."),
    (52, "unknown_calendar", "A calendar that is named does not exist."),
    (53, "bad_calendar", "The settlement minute is not between opening and cut-off, or the name is not plain."),
    (
        54,
        "bad_value_date",
        "The settlement day is before the trade or today, or no business day of the calendar.",
    ),
    (55, "late", "The cut-off of the settlement day has passed."),
    (56, "too_early", "The settlement day has not come, or the market has not opened."),
    (57, "self_trade", "Both sides of a trade are the same account, party or asset."),
    (58, "bad_legs", "The legs are not the next ones, are not all there, or are others than those affirmed."),
    (59, "not_a_participant", "The account has no part in this instruction."),
    (60, "not_matched", "The instruction is not matched, or somebody who gives has not affirmed it."),
    (61, "on_hold", "A participant holds the instruction back."),
    (62, "irrevocable", "The instruction is locked: only an order of authority can stop it."),
    (63, "instruction_closed", "The instruction is settled, cancelled or rejected."),
    (64, "unknown_offer", "The offer does not exist, or was taken, withdrawn, or has expired."),
    (65, "unknown_money", "The asset is not authorised as money."),
    (
        66,
        "wrong_money",
        "The asset is not the kind of money, or of the currency, precision or bank, that is needed here.",
    ),
    (67, "stale_attestation", "There is no attestation of the bank's deposits that is young enough."),
    (68, "above_attestation", "The bank's money in circulation would exceed its attested deposits."),
    (69, "wrong_time", "The moment or day that is named has passed, lies ahead, or was spoken of before."),
    (70, "quarantined", "The money of this bank is under quarantine: nobody may begin a new use of it."),
    (71, "unapproved_money", "In this currency only authorised money may be paid with."),
    (72, "unknown_payment", "The account has no such payment."),
    (73, "payment_over", "The payment waits no more: it was made, cancelled or returned."),
    (
        74,
        "short_reserves",
        "The reserves of the payer's bank do not cover the payment and those that waited before it.",
    ),
    (75, "no_link", "No standing link lets units of this instrument move between these registers."),
    (76, "above_link_limit", "More units would stand in the other register than the link allows."),
    (77, "is_mirror", "A mirror carries no title: its units stay in their register."),
    (78, "not_a_mirror", "The asset is no mirror: its register is the one that counts."),
    (80, "order_stops", "An order of authority reaches these units: they stay where they are."),
    (81, "second_approver", "An order needs two approvers who are regulators and different parties."),
    (82, "bad_order", "The scope, the quantity or the terms of the order do not fit its power."),
    (83, "unknown_order", "An order that is named does not exist."),
    (84, "order_ended", "The order has ended: there is nothing left of it."),
    (85, "order_expired", "The order would have expired before this block."),
    (86, "bad_appeal", "The order does not concern this party, was appealed against, or the time for it has passed."),
    (87, "order_short", "Fewer units are in reach than the order takes, and it does not catch later ones."),
    (88, "out_of_reach", "The order would have to take units from a bucket in which its power takes none."),
    (89, "order_too_wide", "The order reaches too many accounts or holdings at once."),
    (90, "unknown_escrow", "An escrow that is named does not exist."),
    (91, "bad_escrow", "The conditions of the escrow are none, or cannot be met."),
    (92, "escrow_ended", "The escrow was fulfilled or returned, or its time has passed."),
    (93, "conditions_unmet", "A condition of the escrow is not met."),
    (100, "malformed", "The bytes are not a canonical, well-formed transaction."),
    (101, "wrong_network", "The transaction was made for another network."),
    (102, "too_large", "The transaction exceeds a limit of the network."),
    (103, "bad_signature", "A signature is not valid."),
    (104, "busy", "The node holds as much as it may; try again after the time it names."),
    (105, "already_pending", "The same transaction is already waiting at this node."),
    (106, "not_ready", "The node is starting or catching up."),
)


class Reason(IntEnum):
    """The codes by name."""

    OK = 0
    EXPIRED = 1
    TOO_FAR_AHEAD = 2
    DUPLICATE = 3
    FEE_TOO_LOW = 4
    UNAUTHORISED = 5
    UNKNOWN_ACCOUNT = 6
    UNKNOWN_ASSET = 7
    INSUFFICIENT_FREE = 8
    INSUFFICIENT_LOCKED = 9
    ZERO_AMOUNT = 10
    SAME_ACCOUNT = 11
    OVERFLOW = 12
    ASSET_EXISTS = 13
    BAD_ISIN = 14
    BAD_CURRENCY = 15
    UNKNOWN_REGISTER = 16
    ACCOUNT_EXISTS = 17
    BAD_POLICY_VERSION = 18
    RESTRICTED = 19
    CANNOT_PAY_FEE = 20
    INSUFFICIENT_NATIVE = 21
    UNKNOWN_STAKE = 22
    STAKE_EXISTS = 23
    BAD_EVIDENCE = 24
    ALREADY_REPORTED = 25
    BAD_EPOCH = 26
    TOO_FEW_APPROVALS = 27
    BAD_SEATS = 28
    WRONG_ENGINE = 29
    INSUFFICIENT_ENCUMBERED = 30
    NOT_PERMITTED = 34
    UNKNOWN_PARTY = 35
    BAD_PARTY = 36
    BAD_CUSTODY = 37
    ALREADY_REGISTERED = 38
    INSUFFICIENT_ALLOCATION = 39
    BAD_PERMISSION = 40
    UNKNOWN_RECORD = 41
    BAD_DESCRIPTION = 42
    LOOKS_ALIKE = 43
    INACTIVE = 44
    ABOVE_ISSUE_SIZE = 45
    NOT_ACCREDITED = 46
    INELIGIBLE = 47
    HOLDER_LIMIT = 48
    VENUE_OFF = 49
    UNKNOWN_INSTRUCTION = 50
    IDENTIFIER_USED = 51
    UNKNOWN_CALENDAR = 52
    BAD_CALENDAR = 53
    BAD_VALUE_DATE = 54
    LATE = 55
    TOO_EARLY = 56
    SELF_TRADE = 57
    BAD_LEGS = 58
    NOT_A_PARTICIPANT = 59
    NOT_MATCHED = 60
    ON_HOLD = 61
    IRREVOCABLE = 62
    INSTRUCTION_CLOSED = 63
    UNKNOWN_OFFER = 64
    UNKNOWN_MONEY = 65
    WRONG_MONEY = 66
    STALE_ATTESTATION = 67
    ABOVE_ATTESTATION = 68
    WRONG_TIME = 69
    QUARANTINED = 70
    UNAPPROVED_MONEY = 71
    UNKNOWN_PAYMENT = 72
    PAYMENT_OVER = 73
    SHORT_RESERVES = 74
    NO_LINK = 75
    ABOVE_LINK_LIMIT = 76
    IS_MIRROR = 77
    NOT_A_MIRROR = 78
    ORDER_STOPS = 80
    SECOND_APPROVER = 81
    BAD_ORDER = 82
    UNKNOWN_ORDER = 83
    ORDER_ENDED = 84
    ORDER_EXPIRED = 85
    BAD_APPEAL = 86
    ORDER_SHORT = 87
    OUT_OF_REACH = 88
    ORDER_TOO_WIDE = 89
    UNKNOWN_ESCROW = 90
    BAD_ESCROW = 91
    ESCROW_ENDED = 92
    CONDITIONS_UNMET = 93
    MALFORMED = 100
    WRONG_NETWORK = 101
    TOO_LARGE = 102
    BAD_SIGNATURE = 103
    BUSY = 104
    ALREADY_PENDING = 105
    NOT_READY = 106

    @property
    def title(self) -> str:
        """The stable name as it stands in receipts, logs and reports."""
        return self.name.lower()


_SENTENCES: Final = {code: sentence for code, _, sentence in REASONS}


def sentence_of(code: int) -> str:
    """The sentence of a reason code, for people."""
    return _SENTENCES.get(code, f"Unknown reason code {code}.")


_OF_TRANSACTIONS: Final = {
    Reason.EXPIRED: "validity of transactions",
    Reason.TOO_FAR_AHEAD: "validity of transactions",
    Reason.DUPLICATE: "replay of transactions",
    Reason.FEE_TOO_LOW: "fees of transactions",
    Reason.CANNOT_PAY_FEE: "fees of transactions",
}


def rule_named(code: int, rule: str, operation: str = "") -> str:
    """The name of the rule that refused, for people: the one that went with the receipt, which is stored with it.

    Rules that every transaction meets alike are not stored, since they follow from the code and the ``operation`` at
    which it was refused: the rules of transactions (docs/protocol.md, section 4.1), who signs, the operation's own.
    Empty for success.
    """
    if code == Reason.OK or rule:
        return rule
    if code in _OF_TRANSACTIONS:
        return _OF_TRANSACTIONS[Reason(code)]
    if code == Reason.UNAUTHORISED:
        return f"who signs {operation}" if operation else "who signs for the payer of the fee"
    return operation or "form of transactions"
