"""Sub-seeds drawn by name from one master seed, so that adding a use of chance moves none of the others."""

import hashlib

from trainables.settings import Seeds


def sub_seed(master: int, name: str) -> int:
    """A seed in [0, 2³¹) that depends on nothing but ``master`` and ``name``."""
    digest = hashlib.sha256(f"{master}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def trial_seeds(master: int) -> Seeds:
    """The seeds of every trial of a study: the seed is not a hyperparameter, so all trials share them."""
    return Seeds(**{name: sub_seed(master, name) for name in ("split", "init", "order", "augment")})
