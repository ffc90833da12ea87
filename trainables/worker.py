"""The check whether a process that has run trials before may run another one."""

from trainables.devices.device import MemoryDevice
from trainables.devices.errors import is_device_error
from trainables.devices.host import GIB

# Libraries keep small buffers that they make once.
_TOLERANCE_BYTES = 16 * 2**20


class RunAgainError(RuntimeError):
    """The trial could not run, through no fault of its configuration. It may be retried in another process."""


class WorkerNotCleanError(RunAgainError):
    """An earlier trial of this process left memory behind."""


class MemoryTakenError(RunAgainError):
    """Memory ran out that the trial was entitled to.

    Args:
        cause: ``neighbour`` if other processes held it, or ``fragmentation`` if it was free but in pieces.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(f"{cause}: {message}")
        self.cause = cause


_clean_bytes: int | None = None
_trials = 0


def check_worker_is_clean(device: MemoryDevice) -> None:
    """Check that no earlier trial left memory behind; call this at the start of each trial of a process.

    The first call sets what counts as clean.

    Raises:
        WorkerNotCleanError: after a release, the device holds more than 16 MiB beyond what lived there at first.
    """
    global _clean_bytes, _trials
    _trials += 1
    device.release()
    live = device.live_bytes()
    if _clean_bytes is None:
        _clean_bytes = live
    elif live - _clean_bytes > _TOLERANCE_BYTES:
        raise WorkerNotCleanError(f"an earlier trial left {(live - _clean_bytes) / GIB:.2f} GiB in this worker")


def is_trials_own(error: Exception) -> bool:
    """Return whether a failed trial of this process would fail in another one too.

    A device error in a process that ran trials before may come from a context that one of those trials broke.
    """
    return not isinstance(error, RunAgainError) and not (_trials > 1 and is_device_error(error))
