"""Output of ``headroom confirm``: candidates with their uncertainty, the winner, and its figure on the test part."""

import shlex

from rich.table import Table

from tune_app.console import Console
from tune_app.study.confirmation import Confirmation, ConfirmedCandidate, Interval, TestPart, confirmation_line
from tune_app.study.reporting import params_text


def print_confirmation(console: Console, confirmation: Confirmation) -> None:
    """Print a confirmation, with the command that exports its winner."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("trial", "search", "confirmed", "90 % interval", "seeds", "best with", "p", ""):
        table.add_column(column, justify="right" if column else "left")
    table.add_column("configuration", overflow="fold")
    for candidate in sorted(confirmation.candidates, key=lambda who: (who.mean is None, -(who.mean or 0.0))):
        table.add_row(*_row(candidate))
    console.print(table)
    for line in _lines(confirmation):
        console.say(line)
    console.say(f"export it           headroom export {shlex.quote(confirmation.study)} --to exports")


def _row(candidate: ConfirmedCandidate) -> list[str]:
    compared = candidate.compared
    remarks = [candidate.standing, *(["recommended"] if candidate.role == "recommended" else [])]
    return [
        "–" if candidate.number is None else str(candidate.number),
        _shown(candidate.search_value),
        _shown(candidate.mean),
        _shown_interval(candidate.interval),
        str(len(candidate.values)),
        f"{candidate.p_best:.0%}",
        "" if compared is None else f"{compared.p:.3f} ({compared.test})",
        ", ".join(remarks),
        params_text(candidate.params),
    ]


def _lines(confirmation: Confirmation) -> list[str]:
    lines = [confirmation_line(confirmation)]
    if confirmation.expected_interval is not None:
        lines.append(f"on unseen rows expect {_shown_interval(confirmation.expected_interval)} (90 %)")
    if ties := sum(candidate.standing == "tie" for candidate in confirmation.candidates):
        lines.append(f"{ties} {'others' if ties > 1 else 'other'} cannot be told apart from the best mean (tie)")
    if any(who.standing == "winner" and who.compared is not None for who in confirmation.candidates):
        lines.append("the winner has not the best mean: it is recommended and not beaten, or the cheapest of the ties")
    if confirmation.test is not None:
        lines += _test_lines(confirmation.test)
    problems = [problem for candidate in confirmation.candidates for problem in candidate.problems]
    return [*lines, *(f"a training ended without a value: {problem}" for problem in problems), *confirmation.remarks]


def _test_lines(test: TestPart) -> list[str]:
    who = "the recommended configuration" if test.number is None else f"trial {test.number}"
    baseline = "" if test.baseline is None else f"; an answer that needs no model scores {_shown(test.baseline)}"
    lines = [f"test part, opened {test.opened}: {who} {_shown(test.value)} {_shown_interval(test.interval)}{baseline}"]
    if test.recommended is not None and test.difference is not None:
        lines.append(
            f"the recommended configuration {_shown(test.recommended.value)}"
            f" {_shown_interval(test.recommended.interval)}, the difference {test.difference:+.4f}"
            f" {_shown_interval(test.difference_interval)}"
        )
    return lines


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _shown_interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
