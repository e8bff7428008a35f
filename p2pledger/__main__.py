"""Lets `python -m p2pledger` do what the command `p2pledger` does."""

from p2pledger.cli import main

if __name__ == "__main__":
    main()
