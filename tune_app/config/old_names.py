"""Settings of earlier releases, still accepted under their old names and with their old defaults."""

from typing import Any

from tune_app.errors import UserError

WARMUP, OLD_WARMUP = "scheduler.warmup", "scheduler.warmup_epochs"
"""A setting, and its old name from before folds existed, which is still accepted."""


def keep_split_of_export(raw: dict[str, Any]) -> None:
    """Keep the split of an export from before ``data.equal_texts`` existed the same as in its study."""
    if raw.get("pinned") is not None:
        keep_split(raw)


def keep_split(raw: dict[str, Any]) -> None:
    """Keep the split of a study's own configuration, which lacks ``data.equal_texts`` if it is older than that."""
    if isinstance(raw.get("data"), dict):
        raw["data"].setdefault("equal_texts", "apart")


def rename_warmup(raw: dict[str, Any]) -> bool:
    """Rename the old warmup setting, and return whether it was there."""
    scheduler = raw.get("scheduler")
    old, new = OLD_WARMUP.split(".")[1], WARMUP.split(".")[1]
    if not isinstance(scheduler, dict) or old not in scheduler:
        return False
    if new in scheduler:
        raise UserError(f"{OLD_WARMUP}: {scheduler[old]} conflicts with {WARMUP}, its new name; keep one of them")
    scheduler[new] = scheduler.pop(old)
    return True
