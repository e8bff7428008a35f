"""The command line. ``main`` is all that this file offers; everything else is loaded when it is called.

Data go to stdout, talk goes to stderr. Exit codes:

    0  done                       4  cannot connect
    1  a check failed             5  timed out
    2  wrong usage                70 internal error
    3  bad configuration          130 interrupted (Ctrl-C)
"""

__all__ = ["main"]


def main() -> None:
    """Runs the command line with the arguments of the process, and exits."""
    import sys

    try:
        from p2pledger.cli.app import app

        app()
    except KeyboardInterrupt:  # before a command was there to say it
        sys.exit(130)
