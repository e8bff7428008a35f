"""``python -m tests.ledger.market.walk``: the seeded walk, with a seed and a length of one's own; prints the table."""

from __future__ import annotations

import argparse
import sys

from tests.ledger.market.walk.walker import walk


def main() -> int:
    """0 where everything occurred that can; a longer walk may be needed for that."""
    parser = argparse.ArgumentParser(prog="python -m tests.ledger.market.walk", description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--steps", type=int, default=10_000, help="transactions")
    options = parser.parse_args()
    tally = walk(options.seed, options.steps)
    print(tally.table())
    missing = tally.missing()
    if missing:
        print("never: " + ", ".join(missing))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
