"""``python -m tune_app`` and the console script ``headroom``."""

import os
import sys

if __name__ == "__main__" and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
    # Python puts the working directory first, where a file may have a library's name, such as tokenize.py.
    del sys.path[0]

import atexit
import logging
from dataclasses import dataclass

from tune_app.cli import main as run_command
from tune_app.quiet import quiet_libraries


@dataclass
class _Leaving:
    """Exit handler that ends this process at once, after all handlers registered later have run.

    The destructors of Ray and torch take ten seconds and more on a busy machine. A person would not know what they wait
    for, and everything is written by that time.

    Attributes:
        code: the command's exit code; None leaves the end to the interpreter.
    """

    code: int | None = None

    def __call__(self) -> None:
        if self.code is None:
            return
        logging.shutdown()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            # Nobody reads the output any more: leave the error message to the interpreter.
            return
        os._exit(self.code)


def main() -> None:
    """Run the command that this process was started for, and end the process with it."""
    quiet_libraries()
    leaving = _Leaving()
    # Register this handler first, so that it runs last.
    atexit.register(leaving)
    try:
        run_command()
    except SystemExit as end:
        leaving.code = end.code if isinstance(end.code, int) else None
        raise


if __name__ == "__main__":
    main()
