"""Measures the core from a checkout: ``python benchmarks/bench_core.py --only hashing`` is ``p2pledger bench core``.

The measuring itself is part of the package (``p2pledger.bench``), so that whoever installs it can repeat our figures.
"""

import sys

from p2pledger.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["bench", "core"]
    main()
