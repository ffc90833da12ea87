"""Display of the differences between a study and a configuration."""

from collections.abc import Sequence

from rich.table import Table

from tune_app.console import Console
from tune_app.study.record import Difference, what_changed


def print_differences(console: Console, study: str, differences: Sequence[Difference]) -> None:
    """Print the differences between a study and a configuration, one line each."""
    console.say(f"study {study}: {what_changed(differences)}:")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("parameter", "study", "config"):
        table.add_column(column, overflow="fold")
    for difference in differences:
        table.add_row(difference.parameter, difference.study, difference.config)
    console.print(table)
