"""Lets `python -m p2pledger` do what the command `p2pledger` does."""

if __name__ == "__main__":
    try:
        from p2pledger.cli import main

        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
