"""Settings of the data: its source, its columns and its split."""

from dataclasses import dataclass, field
from typing import Literal

from trainables.declaration import Setting, section, setting


class SettingError(ValueError):
    """A setting that conflicts with another one of its section. The message states the problem and the remedy."""

    def __init__(self, name: str, value: object, problem: str) -> None:
        super().__init__(problem)
        self.name = name
        self.value = value


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns in the user's file."""

    text: str = setting("text", "Column of the texts.")
    criterion: str | None = setting(
        "criterion",
        "Column of the criteria. Without it, or with null, each text stands alone. The data need not have the column.",
    )
    label: str = setting("label", "Column of the labels: whole numbers or names.")
    group_id: str | None = setting(
        "group_id",
        "Column of the groups. Rows of one group always go to the same part of the split. Without it, or with null,"
        " every row is its own group.",
    )
    evidence_start: str = setting("evidence_start", "Column of the character offset at which the evidence begins.")
    evidence_end: str = setting("evidence_end", "Column of the character offset at which the evidence ends.")

    def check(self) -> None:
        """Require a column of its own for each role.

        Raises:
            SettingError: two roles share a column.
        """
        roles: dict[str, str] = {}
        for role, name in vars(self).items():
            other = roles.setdefault(name, role)
            if name is not None and other != role:
                without = f", or set data.columns.{role}=null" if role in ("criterion", "group_id") else ""
                raise SettingError(role, name, f"is the column of {other} already; name a column of its own{without}")


@dataclass(frozen=True)
class DataSettings:
    """The source of the rows and their split; the same for every trial of a study.

    Without ``folds`` trials train on one training part and are scored on one validation part. With ``folds`` they do so
    on that many folds, one after the other. The test part is the same either way. Groups that hold equal texts go to
    one part (``together``), unless ``equal_texts`` is ``apart``.
    """

    path: str = field(
        metadata=Setting(
            "Data file: CSV, JSONL or Parquet, may end in .gz, with one row per (text, criterion) pair. The word demo"
            " uses built-in data."
        ).metadata
    )
    columns: ColumnNames = section(ColumnNames, "Names of the columns.")
    max_rows: int | None = setting(None, "Use whole groups, up to this many rows. null uses all rows.", above=0)
    equal_texts: Literal["together", "apart"] = setting(
        "together",
        "Split of groups that hold equal texts. together puts them into the same part; apart splits them like any"
        " others.",
    )
    validation_share: float = setting(0.2, "Share of the groups that validate.", above=0, below=1)
    test_share: float = setting(0.2, "Share of the groups that are set aside as the test part.", above=0, below=1)
    folds: int | None = setting(
        None,
        "Number of folds for cross-validation, over all rows outside the test part. null trains on a single split.",
        at_least=2,
        at_most=100,
    )
    num_workers: int = setting(0, "Processes that prepare batches in advance. 0 uses none.", at_least=0, at_most=64)
    pin_memory: bool = setting(True, "Use page-locked memory for batches. No effect on the CPU.")

    def check(self) -> None:
        """Require that the parts leave rows to train on.

        Raises:
            SettingError: they leave none.
        """
        if self.validation_share + self.test_share >= 1:
            raise SettingError(
                "validation_share",
                self.validation_share,
                f"leaves no training part beside data.test_share {self.test_share:g}; lower one of them",
            )
