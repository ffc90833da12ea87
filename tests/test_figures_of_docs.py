"""Figures that the documentation quotes: each stands in a result file of a bench.

A comment above a paragraph or a table names the files: ``<!-- figures: scripts/bench/results/oom.txt -->``. Every
number of that block must be a number of one of the files, rounded to the decimals that are quoted.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
_BLOCK = re.compile(r"<!-- figures: (?P<files>[^>]+) -->\n\s*(?P<block>(?:[^\n]+\n)+)")
# Code, links and the digits of names (ModernBERT2, H100) are no figures.
_NO_FIGURES = re.compile(r"`[^`]*`|\]\([^)]*\)|\b[A-Za-z-]+\d+\w*")
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")


def numbers(text: str) -> list[str]:
    return [found.replace(",", "").rstrip(".") for found in _NUMBER.findall(text)]


def quoted() -> Iterator[tuple[str, list[str], str]]:
    """Yield each quoted block's page, its result files and its text."""
    for page in PAGES:
        for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            yield str(page.relative_to(ROOT)), match["files"].split(), match["block"]


@pytest.mark.parametrize(("page", "files", "block"), list(quoted()))
def test_every_figure_stands_in_a_result_file(page: str, files: list[str], block: str) -> None:
    measured = {float(number) for file in files for number in numbers((ROOT / file).read_text(encoding="utf-8"))}

    def is_measured(figure: str) -> bool:
        decimals = len(figure.partition(".")[2])
        return any(round(value, decimals) == float(figure) for value in measured)

    figures = numbers(_NO_FIGURES.sub("", block))
    assert figures, f"{page}: the block quotes no figure"
    assert [figure for figure in figures if not is_measured(figure)] == [], f"{page}: not in {', '.join(files)}"


def test_a_paragraph_that_names_a_result_file_is_checked() -> None:
    unchecked = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for paragraph in re.split(r"\n\s*\n", _BLOCK.sub("", text)):
            if "scripts/bench/results/" in paragraph and re.search(r"\d\.\d", paragraph):
                unchecked.append(f"{page.relative_to(ROOT)}: {paragraph[:80]}")
    assert unchecked == []


def test_a_wrong_figure_is_found(tmp_path: Path) -> None:
    figures = numbers(_NO_FIGURES.sub("", "an H100 takes 12.3 GiB, `x-4.5` of 1,000; 0.4 %"))
    assert figures == ["12.3", "1000", "0.4"]
