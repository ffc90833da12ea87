"""The page of troubleshooting has an entry for every message that a user can meet, and none for a message that is gone.

The messages are read from the source: from the places that raise an error, that record why a trial or a search ended,
that warn, and that report a finding of ``headroom doctor``. An entry names its messages by their fixed words, with
``…`` for what varies, as its heading or in a line that begins with "Also".
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
PACKAGES = ("tune_app", "trainables", "search_spaces")
VARIES = "…"

# Calls that record a message for a person; the messages are their arguments.
RECORDS = {
    "Finding",
    "Warned",
    "warn",
    "echo",
    "Violation",
    "Decision",
    "TrialError",
    "Breakage",
    "_unmeasured",
    "_UnusableError",
}

# Errors that no user meets: they are caught and handled, or show a defect of the program.
HANDLED = {"DamagedError", "DiscardWorker", "MemoryExhaustedError", "BudgetExceededError", "RunAgainError"}
PROGRAMMING = {"NotImplementedError", "AttributeError", "KeyError", "IndexError", "RuntimeError"}
# Wrong calls of functions that only this program calls, whose callers check before.
DEFECTS = (
    "the candidates share no seed",
    "the test part was opened before",
    "trial …: outcome … with value …",
    "needs a space without float ranges",
    "a space with a float range has no list of its configurations",
    "no length of at most … tokens tells the sizes of this … encoder apart",
    "no optimizer of the registry is a …",
    "the … part was not loaded: a search never reads it",
    "this disentangled attention returns no attentions",
    "the tokenizer of … cannot be trained: all … texts are empty",
    "model … needs tokenizer_folder: train one with builtin.train_tokenizer",
    "has no token for the probe …",
    "the cached tokens in … do not belong together",
    "its outputs have the shape …, not …",
    "rungs.per_epoch=… with data.folds=…",
    "is read only with …, which no configuration of the space has",
    # Settings with these values are refused before, by the declaration of the setting.
    "scheduler.name: … is none of …",
    "search.sampler: … is none of …",
    "schedule.name: … is not one of …",
    "train.precision: … is not auto, fp32 or bf16",
    "loss.class_weighting: … is not none, inverse or effective_number",
    "head.pooling … is unknown; use one of …",
)


@dataclass(frozen=True)
class Message:
    """Message in the source; ``text`` has ``…`` for what varies."""

    text: str
    place: str


def texts(node: ast.expr, known: dict[str, list[ast.expr]]) -> list[str]:
    """Return the texts that an expression may stand for, with ``…`` for what varies.

    Args:
        known: expressions that the function assigns to each of its names.
    """
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(part.value if isinstance(part, ast.Constant) else VARIES for part in parts)]
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return ["".join(pair) for pair in product(texts(left, known), texts(right, known))]
        case ast.IfExp(body=body, orelse=orelse):
            return [*texts(body, known), *texts(orelse, known)]
        case ast.Name(id=name) if name in known:
            return [text for value in known[name] for text in texts(value, {})]
    return [VARIES]


def assigned(function: ast.AST) -> dict[str, list[ast.expr]]:
    """Return the expressions that a function assigns to each of its names, added parts included."""
    known: dict[str, list[ast.expr]] = {}
    for node in own_nodes(function):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    known.setdefault(target.id, []).append(node.value)
    return known


def functions(tree: ast.Module) -> Iterator[ast.AST]:
    yield tree
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function or a module, without those of the functions in it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef):
            yield node
            yield from own_nodes(node)


def calls(function: ast.AST, errors: set[str]) -> Iterator[ast.Call]:
    """Yield the calls in a function that raise an error or record a message."""
    for node in own_nodes(function):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            if called(node.exc) in errors:
                yield node.exc
        elif isinstance(node, ast.Call) and called(node) in RECORDS and not is_output(node):
            yield node


def is_output(call: ast.Call) -> bool:
    """Return whether a call prints a result: to the standard output, not to that of errors."""
    return called(call) == "echo" and not any(keyword.arg == "err" for keyword in call.keywords)


def called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def messages() -> list[Message]:
    """Return the messages of the source that have fixed words of their own, each once."""
    trees = {
        path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    errors = {one.name for one in classes if any(re.search(r"(Error|Exception)$", ast.unparse(b)) for b in one.bases)}
    errors |= {"ValueError", "OSError"}
    found: dict[str, Message] = {}
    for path, tree in trees.items():
        for function in functions(tree):
            known = assigned(function)
            for call in calls(function, errors - HANDLED - PROGRAMMING):
                for text in said(call, known):
                    found.setdefault(text, Message(text, f"{path}:{call.lineno}"))
    return [message for message in found.values() if has_words(message.text)]


def said(call: ast.Call, known: dict[str, list[ast.expr]]) -> list[str]:
    """Return the messages of a call: of a finding with its remedy, of other calls the longest argument."""
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    if called(call) == "Finding":
        if len(call.args) < 4:
            return []
        return [f"{found} → {remedy}" for found, remedy in product(*(texts(one, known) for one in call.args[2:4]))]
    options = [texts(argument, known) for argument in arguments]
    return max(options, key=lambda one: max(map(words, one)), default=[])


def words(text: str) -> int:
    return len(re.findall(r"[A-Za-z]{2,}", text))


def has_words(text: str) -> bool:
    """Return whether a message has words of its own, not only those of another error that it passes on."""
    return words(text) >= 3


def covers(phrase: str, text: str) -> bool:
    """Return whether the fixed words of a phrase occur in a text, in their order."""
    at = 0
    for part in phrase.split(VARIES):
        place = text.find(part.strip(), at)
        if place < 0:
            return False
        at = place + len(part.strip())
    return True


def phrases() -> list[str]:
    """Return the messages that the page's entries name."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [
        phrase.strip()
        for line in lines
        if line.startswith(("### ", "Also "))
        for phrase in re.findall(r"`([^`]+)`", line)
    ]


@pytest.fixture(scope="module")
def told() -> list[Message]:
    return messages()


def test_the_walk_finds_messages_of_every_kind(told: Sequence[Message]) -> None:
    every = "\n".join(message.text for message in told)
    for known in (
        "has changed since the search began",  # an error of a trial's own
        "expected KEY=VALUE",  # bad input
        "is not a class: labels are whole numbers or names",  # a cell of the data
        "unset CUDA_LAUNCH_BLOCKING",  # a finding of the doctor
        "the trial ended without a report",  # an outcome's reason
        "GiB at micro-batch 1",  # a rule's reason
    ):
        assert known in every


def test_every_message_has_an_entry(told: Sequence[Message]) -> None:
    described = [*phrases(), *DEFECTS]
    missing = [message for message in told if not any(covers(phrase, message.text) for phrase in described)]
    listed = "\n".join(f"{message.place}: {message.text}" for message in missing)
    assert not missing, f"docs/troubleshooting.md has no entry for:\n{listed}"


def test_every_entry_describes_a_message_of_the_source() -> None:
    constants = [
        text
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.expr)
        for text in texts(node, {})
        if text != VARIES
    ]
    stale = [phrase for phrase in [*phrases(), *DEFECTS] if not any(covers(phrase, text) for text in constants)]
    assert stale == []


def test_every_phrase_is_specific() -> None:
    assert [phrase for phrase in [*phrases(), *DEFECTS] if len(re.findall("[A-Za-z]", phrase)) < 7] == []


def test_every_entry_explains() -> None:
    entries = re.split(r"(?m)^### ", PAGE.read_text(encoding="utf-8"))[1:]
    short = [entry.splitlines()[0] for entry in entries if words(entry.partition("\n")[2]) < 12]
    assert short == []
