"""Sub-seeds drawn by name from one master seed, so that a new random purpose changes no other sub-seed."""

import hashlib

from trainables.settings import Seeds


def sub_seed(master: int, name: str) -> int:
    """Return a seed in [0, 2³¹) that depends on ``master`` and ``name`` alone."""
    digest = hashlib.sha256(f"{master}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def trial_seeds(master: int) -> Seeds:
    """Return the seeds that all trials of a study share: the seed is not a hyperparameter."""
    return Seeds(**{name: sub_seed(master, name) for name in ("split", "init", "order", "augment")})
