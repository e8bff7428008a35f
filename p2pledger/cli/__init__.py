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
    try:
        import os
        import signal
        import sys

        # While modules are loaded, an interruption could come up anywhere, and as anything: leave at once.
        is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_heard:
            signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
        # Whoever closed one of them (2>&-) does not want it; and print would write to stdout what was for stderr.
        sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        from p2pledger.cli.app import app

        if is_heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app()
    except KeyboardInterrupt:  # before a command was there to say it
        sys.exit(130)
