"""The command `evoprompt`, and `python -m evoprompt`."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # amid the imports there is nothing to stop in order, or to tell
    from evoprompt.cli import main as begin

    begin()


if __name__ == "__main__":
    main()
