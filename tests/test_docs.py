"""Pages of the documentation: their commands, their snippets and their figures.

Sybil reads the pages. Every command of a block ``sh`` or ``console`` runs, in the order of the page, and its output is
compared with the one that is shown: ``…`` stands for anything, and figures may differ. Snippets of Python run, and YAML
is checked against the schema of configurations. A block that cannot run here carries the reason as a comment:
``<!-- skip: next "needs a cluster" -->``.

All pages share the study of the tutorial, in one working directory. What ``headroom init`` drafts there is made cheap:
fewer rows, epochs and trials than on the page. A command that stands on several pages runs once.
"""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from sybil import Document, Example, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

from search_spaces.rules import Sample
from trainables.machine import MachineFiles
from trainables.models.names import OFFLINE_DISTRIBUTION
from trainables.planning.ledger import Circumstances
from trainables.planning.timings import PaceLedger, Setup, Timing, Work
from tune_app.cli import main
from tune_app.config.schema import config_schema

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TUTORIAL = "docs/tutorial.md"
PAGES = ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md")))]

# Settings that make what ``headroom init`` drafts cheap, and options that take the place of a command's own.
CHEAP_SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"max_rows": 150},
    "model": {"name": "tiny-bert"},
    "train": {"epochs": 1},
    "search": {"trials": 1, "recommended": 1},
    "space": {"model.name": None},
}
CHEAP_OPTIONS = {
    "search": {"--trials": "1"},
    "confirm": {"--top": "1", "--seeds": "1", "--max-hours": None},
}
# Commands that run until somebody ends them, or that report on the machine.
NOT_RUN = {"dashboard", "doctor", "--watch"}


class Reader:
    """Reader of the pages' blocks in one working directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ran: dict[str, str] = {}
        self._schema = Draft202012Validator(config_schema())
        self._sybil = Sybil(
            parsers=[
                CodeBlockParser("sh", self._commands),
                CodeBlockParser("console", self._session),
                PythonCodeBlockParser(),
                CodeBlockParser("yaml", self._configuration),
                CodeBlockParser("toml", lambda example: tomllib.loads(example.parsed) and None),
                CodeBlockParser("json", lambda example: json.loads(example.parsed) and None),
                SkipParser(),
            ],
            document_types={".md": Document},
        )

    def run(self, page: str) -> None:
        """Evaluate the blocks of a page, in their order."""
        for example in self._sybil.parse(ROOT / page).examples():
            try:
                example.evaluate()
            except SkipTest:
                continue

    def _commands(self, example: Example) -> None:
        for line in command_lines(example.parsed):
            self.output(line)

    def _session(self, example: Example) -> None:
        """Run the commands after each ``$``, and compare the output below them."""
        for part in re.split(r"(?m)^\$ ", example.parsed)[1:]:
            command, _, shown = part.partition("\n")
            output = self.output(command)
            assert re.fullmatch(pattern(shown), output.strip(), re.DOTALL), (
                f"{command}\nprinted\n{output}\nnot\n{shown}"
            )

    def output(self, line: str) -> str:
        """Run a command line, unless it ran before, and return its output."""
        line = shlex.join(shlex.split(line, comments=True))
        if line not in self._ran:
            before, words = split_assignments(shlex.split(line))
            if words[0] == "headroom":
                with pytest.MonkeyPatch.context() as patch:
                    for name, value in before.items():
                        patch.setenv(name, value)
                    self._ran[line] = self._headroom(words[1:])
            else:
                ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
                assert ran.returncode == 0, f"{line}: {ran.stderr}"
                self._ran[line] = ran.stdout
        return self._ran[line]

    def _headroom(self, words: list[str]) -> str:
        if not NOT_RUN.isdisjoint(words):
            return ""
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output), pytest.raises(SystemExit) as exited:
            main(with_options(words, CHEAP_OPTIONS.get(words[0], {})))
        text = re.sub(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", "", output.getvalue())
        assert exited.value.code == 0, f"headroom {shlex.join(words)}: {text}"
        if words[0] == "init":
            make_cheap(Path(words[words.index("--to") + 1]))
        return text.replace(str(self._folder), "/home/me")

    def _configuration(self, example: Example) -> None:
        """Check a configuration, or some sections of one."""
        given = YAML(typ="safe").load(example.parsed) or {}
        whole = {"study": {"name": "page"}, "data": {"path": "demo"}, **given}
        assert [error.message for error in self._schema.iter_errors(whole)] == []


def command_lines(source: str) -> list[str]:
    """Return the commands of a block; one goes on in the next line after a backslash, or within quotes."""
    commands, begun = [], ""
    for line in source.replace("\\\n", " ").splitlines():
        begun += f"{line}\n"
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:
            continue
        commands += [begun.strip()] if words else []
        begun = ""
    assert not begun.strip(), f"a quotation without an end: {begun}"
    return commands


def split_assignments(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables that a command line sets for its command, and the command."""
    count = next(index for index, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


def with_options(words: list[str], options: Mapping[str, str | None]) -> list[str]:
    """Return a command with these options in place of its own; None leaves an option out."""
    for name in options:
        if name in words:
            at = words.index(name)
            words = [*words[:at], *words[at + 2 :]]
    return [*words, *(word for name, value in options.items() if value is not None for word in (name, value))]


def make_cheap(config: Path) -> None:
    yaml = YAML()
    settings = yaml.load(config.read_text(encoding="utf-8"))
    for section, values in CHEAP_SETTINGS.items():
        for name, value in values.items():
            if value is None:
                settings[section].pop(name, None)
            else:
                settings[section][name] = value
    with config.open("w", encoding="utf-8") as stream:
        yaml.dump(settings, stream)


def pattern(shown: str) -> str:
    """Return the regular expression of a shown output."""
    parts = re.split(r"(…|\d+(?:[.,:]\d+)*|\s+)", shown.strip())
    known = {"…": ".*"}
    return "".join(
        known.get(part)
        or (r"\d+(?:[.,:]\d+)*" if part[:1].isdigit() else r"\s+" if part.isspace() else re.escape(part))
        for part in parts
        if part
    )


def record_pace() -> None:
    """Record a pace of the small encoders, so that no plan has to time them."""
    for model in ("tiny-bert", "small-bert"):
        for at_once in (1, 2):
            setup = Setup(Circumstances.here("cpu", "fp32"), (model,), "criteria", "adamw", 1, at_once, False, 0)
            work = Work(10, 10, 10 * 8 * 30, 10 * 8 * 30**2, 1.0)
            evaluation = Work(1, 1, 900, 27_000, 0.05)
            PaceLedger(MachineFiles().pace).add(
                Timing(setup, work, evaluation, start_s=0.5, save_s=0.1, saved_bytes=2**20)
            )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, ray_with_one_slot: None) -> Iterator[Reader]:
    """Return the reader of the pages, in a folder that holds the study of the tutorial."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "configs", folder / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("COLUMNS", "140")
        patch.setitem(sys.modules, OFFLINE_DISTRIBUTION.replace("-", "_"), None)
        record_pace()
        read = Reader(folder)
        read.run(TUTORIAL)
        yield read


@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL])
def test_the_commands_and_snippets_of_a_page_run(page: str, reader: Reader) -> None:
    record_pace()
    reader.run(page)


def test_the_page_of_files_lists_what_a_run_directory_holds(reader: Reader) -> None:
    page = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    for folder in ("runs/posts", "exports/posts"):
        unlisted = [path.name for path in Path(folder).iterdir() if f"`{path.name}{'/' * path.is_dir()}`" not in page]
        assert unlisted == [], folder


@pytest.mark.parametrize("command", ["status posts --json", "plan posts.yaml --json", "confirm posts --json"])
def test_the_page_of_json_names_every_key(command: str, reader: Reader) -> None:
    record_pace()
    page = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    printed = json.loads(reader.output(f"headroom {command}").splitlines()[-1])
    assert [key for key in printed if f"`{key}`" not in page and f'"{key}":' not in page] == []


def test_the_rule_of_the_page_on_plugins_rejects_what_it_says() -> None:
    page = (ROOT / "docs" / "how-to" / "plugin.md").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], namespace)
    (rule,) = namespace["TOKENS_PER_STEP"].build(None)
    assert rule.check(Sample("roberta-base", batch=64, accumulation=2, length=512)) is None
    violation = rule.check(Sample("roberta-base", batch=64, accumulation=4, length=512))
    assert (violation.rule, violation.excess) == ("tokens_per_step", 1.0)


def test_a_shown_output_matches_with_other_figures_and_not_with_other_words() -> None:
    shown = pattern("best macro_f1 0.9117 (trial 2), of 5 complete\n…\nrun directory /home/me")
    assert re.fullmatch(
        shown, "best macro_f1 0.7 (trial 0), of 1 complete\nmore\nlines\nrun directory /home/me", re.DOTALL
    )
    assert not re.fullmatch(
        shown, "best accuracy 0.7 (trial 0), of 1 complete\nmore\nrun directory /home/me", re.DOTALL
    )


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_in_a_block_that_is_not_run(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"(?ms)^```([^\n]*)\n(.*?)^```", text)
    other = [block for language, block in blocks if language in ("", "text", "bash", "shell")]
    assert [block for block in other if re.search(r"(?m)^(\$|headroom [a-z]+ )", block)] == []
