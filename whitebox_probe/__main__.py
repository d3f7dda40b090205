"""`python -m whitebox_probe` is the command `whitebox-probe`."""

import sys


def command() -> int:
    """Run the command line as a process of its own; returns the exit status."""
    _take_closed()
    try:
        from whitebox_probe.cli.main import main

        return main()
    except KeyboardInterrupt:  # while it was imported
        if sys.stderr is not None:
            print("\nwhitebox-probe: stopped before it began", file=sys.stderr)
        return 130
    finally:
        _let_go()


def _take_closed() -> None:
    """Put nothing in the place of what a shell closed (`>&-`), or a file would get its number.

    What libraries print to standard output would be written into that file.
    """
    import os

    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _let_go() -> None:
    """From here on there is nothing to put in order: a signal ends the process at once."""
    import signal
    import threading

    # Where Ctrl-C came while a library ran a text as code (dataclasses do, when they are made),
    # Python's `-m` keeps that nobody answered it, and ends by the signal whatever is returned.
    # The next text that is run takes that back.
    eval("None")

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(command())
