"""Signals that end a search: the first gracefully, the second at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible(notify: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into a graceful end of Ray's loop, and set the event that is yielded.

    Ray ends its loop gracefully on SIGUSR1 and in its own SIGINT handler, but then returns as if nothing had happened.
    On SIGTERM it dies with a native dump. The second signal ends the process at once.

    Args:
        notify: called at the first signal, so that a person sees that it arrived.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def end(number: int, frame: object) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()
        notify()
        if not end_loop():
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_loop() -> bool:
    """End Ray's loop gracefully; return False if it is not running, or not in the main thread."""
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        return False
    signal.raise_signal(signal.SIGUSR1)
    return True
