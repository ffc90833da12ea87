"""Signals that end a search: the first in good order, the second at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible(tell: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a graceful end of Ray's loop, and remember that it came.

    Ray ends its loop in good order on SIGUSR1 and on its own SIGINT handler, but returns normally, and on SIGTERM it
    dies in a native dump. The second signal ends the process at once.

    Args:
        tell: called at the first signal, so that a person sees that it came.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def end(number: int, frame: object) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()
        tell()
        if not end_loop():
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_loop() -> bool:
    """End Ray's loop in good order; False where it is not running yet, or not any more, or not in the main thread."""
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        return False
    signal.raise_signal(signal.SIGUSR1)
    return True
