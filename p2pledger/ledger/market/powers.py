"""What an order of authority does to a unit: the product of all buckets and all powers, as one table.

A unit is in exactly one bucket (``buckets.py``); an order has exactly one power (``primitives/market/orders.py``).
What becomes of the unit is one of five outcomes, and ``TABLE`` says which. ``orders.py`` executes what stands here: it
looks each unit up that an order reaches. A bucket or a power without its cells is an error when this file is imported.

The thoughts behind the cells:

* *Free* units have no other right upon them: every power is effective at once.
* A *lock* is a right that the owner gave to a controller before the order came. The only way out of it leads back to
  the owner, so a freeze loses nothing by waiting for it, and a clawback takes what comes back. A forced transfer gives
  away the title; the controller's right stays on it, under the new owner.
* *Settling* units are promised by an instruction that is irrevocable. A freeze stops it: nothing else can. A clawback
  lets it settle, because the other side gave in good faith, and reaches instead what the holder receives for the units.
  A forced transfer would leave the other side with an instruction that nobody can fulfil, and is refused: the authority
  freezes, or names other buckets.
* An *escrow* gives its beneficiary a right under a condition. A freeze stops everything, the fulfilment too, and time
  does not run against the beneficiary meanwhile. A clawback waits: if the condition is met, the beneficiary's right was
  first; if it is not, the units come back and are taken. A forced transfer gives the title away with the condition on
  it. A *standing offer* lies in the same bucket but is only its maker's own wish, and a right of nobody: a power that
  takes withdraws it, so that the encumbrance ends at once.
* A *pending* payment has not been made: a freeze stops it, and a power that takes cancels it and takes the money.
* A *release* lifts one order wherever its units are. What others have upon them stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.orders import Power

__all__ = ["TABLE", "Outcome", "missing_cells", "render"]


class Outcome(IntEnum):
    """What becomes of a unit that an order reaches. The list is closed; the numbers stand in rows."""

    EFFECTIVE_NOW = 0
    EFFECTIVE_WHEN_ENCUMBRANCE_ENDS = 1
    ATTACHES_TO_PROCEEDS = 2
    TRANSFERS_SUBJECT_TO_PRIOR_RIGHT = 3
    REFUSED = 4

    @property
    def words(self) -> str:
        """For people, such as `effective now`."""
        return self.name.lower().replace("_", " ") + (" (out_of_reach)" if self is Outcome.REFUSED else "")


_NOW: Final = Outcome.EFFECTIVE_NOW
_LATER: Final = Outcome.EFFECTIVE_WHEN_ENCUMBRANCE_ENDS
_PROCEEDS: Final = Outcome.ATTACHES_TO_PROCEEDS
_SUBJECT: Final = Outcome.TRANSFERS_SUBJECT_TO_PRIOR_RIGHT
_REFUSED: Final = Outcome.REFUSED

TABLE: Final[Mapping[tuple[Bucket, Power], Outcome]] = MappingProxyType(
    {
        (Bucket.FREE, Power.FREEZE): _NOW,
        (Bucket.FREE, Power.PARTIAL_FREEZE): _NOW,
        (Bucket.FREE, Power.CLAWBACK): _NOW,
        (Bucket.FREE, Power.FORCED_TRANSFER): _NOW,
        (Bucket.FREE, Power.RELEASE): _NOW,
        (Bucket.LOCKED, Power.FREEZE): _LATER,
        (Bucket.LOCKED, Power.PARTIAL_FREEZE): _LATER,
        (Bucket.LOCKED, Power.CLAWBACK): _LATER,
        (Bucket.LOCKED, Power.FORCED_TRANSFER): _SUBJECT,
        (Bucket.LOCKED, Power.RELEASE): _NOW,
        (Bucket.SETTLING, Power.FREEZE): _NOW,
        (Bucket.SETTLING, Power.PARTIAL_FREEZE): _NOW,
        (Bucket.SETTLING, Power.CLAWBACK): _PROCEEDS,
        (Bucket.SETTLING, Power.FORCED_TRANSFER): _REFUSED,
        (Bucket.SETTLING, Power.RELEASE): _NOW,
        (Bucket.ESCROWED, Power.FREEZE): _NOW,
        (Bucket.ESCROWED, Power.PARTIAL_FREEZE): _NOW,
        (Bucket.ESCROWED, Power.CLAWBACK): _LATER,
        (Bucket.ESCROWED, Power.FORCED_TRANSFER): _SUBJECT,
        (Bucket.ESCROWED, Power.RELEASE): _NOW,
        (Bucket.PENDING, Power.FREEZE): _NOW,
        (Bucket.PENDING, Power.PARTIAL_FREEZE): _NOW,
        (Bucket.PENDING, Power.CLAWBACK): _NOW,
        (Bucket.PENDING, Power.FORCED_TRANSFER): _NOW,
        (Bucket.PENDING, Power.RELEASE): _NOW,
    }
)
"""What becomes of a unit in a bucket under a power."""


def missing_cells(
    table: Mapping[tuple[Bucket, Power], Outcome],
    buckets: Iterable[IntEnum] = Bucket,
    powers: Iterable[IntEnum] = Power,
) -> list[str]:
    """The cells of the product that a table lacks, and those that it has beyond it, in words. Empty: it is complete."""
    product = {(bucket, power): f"{bucket.name} x {power.name}" for bucket in buckets for power in powers}
    lacking = [f"no cell {name}" for cell, name in product.items() if cell not in table]
    return lacking + [f"a cell {cell} of no bucket or power" for cell in table if cell not in product]


_MISSING: Final = missing_cells(TABLE)
assert not _MISSING, f"the table of powers is not complete: {', '.join(_MISSING)}"


def render() -> str:
    """The table as text: a row for each bucket, a column for each power. It is also valid Markdown."""
    head = ["bucket", *(power.name.lower().replace("_", " ") for power in Power)]
    rows = [[bucket.name.lower(), *(TABLE[bucket, power].words for power in Power)] for bucket in Bucket]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])
