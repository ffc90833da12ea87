"""Commands that the documentation names in sentences and tables: they exist, with the options that they are given."""

import re
import shlex
from pathlib import Path

import click

from tune_app.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
_NAMED = re.compile(r"`headroom ([^`]+)`|^(?:\$ )?headroom ([^|#>\n]+)", re.MULTILINE)


def commands_of(words: list[str]) -> list[tuple[str, click.Command, list[str]]]:
    """Return the commands that the first words name, with the other words; ``a|b`` names two.

    Raises:
        KeyError: there is no such command.
    """
    group, rest = cli, words
    while True:
        names, rest = rest[0].replace("\\|", "|").split("|"), rest[1:]
        found = [group.commands[name] for name in names]
        inner = found[0]
        if len(found) > 1 or not isinstance(inner, click.Group) or not rest:
            return [(name, command, rest) for name, command in zip(names, found, strict=True)]
        group = inner


def problems_of(text: str) -> list[str]:
    try:
        words = shlex.split(text.replace("\\\n", " "))
        named = commands_of(words)
    except (KeyError, ValueError) as error:
        return [f"headroom {text}: {error!r}"]
    problems = []
    for name, command, rest in named:
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        problems += [f"headroom {name}: no {option}" for option in sorted(given - known - {"--help"})]
    return problems


def test_every_command_exists_with_its_options() -> None:
    problems = []
    for page in PAGES:
        for match in _NAMED.finditer(page.read_text(encoding="utf-8")):
            text = (match[1] or match[2]).strip()
            if re.match(r"[a-z]", text):
                problems += [f"{page.relative_to(ROOT)}: {problem}" for problem in problems_of(text)]
    assert problems == []


def test_a_wrong_command_or_option_is_found() -> None:
    assert problems_of("serch my.yaml")
    assert problems_of("search my.yaml --trails 3") == ["headroom search: no --trails"]
    assert problems_of("study list|shoe") != []
    assert problems_of("study list|show --json") == []
    assert problems_of("search my.yaml --trials 3 -s a=b") == []
