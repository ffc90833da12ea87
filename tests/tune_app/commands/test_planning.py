"""``headroom memory``: the table of needs, the verdict on one configuration, and its JSON."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tune_app.cli import cli
from tune_app.errors import UserError

VERDICT_KEYS = {
    "model",
    "length",
    "effective_batch",
    "precision",
    "device",
    "budget_gib",
    "fits",
    "need_gib",
    "micro_batch",
    "accumulation_steps",
    "max_micro_batch",
}


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "plan.yaml"
    file.write_text(
        "study: {name: plan}\n"
        "data: {path: demo}\n"
        "space:\n"
        "  model.name: {choices: [tiny-bert, tiny-roberta]}\n"
        "  tok.max_length: {low: 32, high: 512, step: 16}\n"
    )
    return str(file)


def asked(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["memory", *arguments], catch_exceptions=False, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_row_per_model_and_length_says_what_fits(config: str) -> None:
    rows = json.loads(asked(config, "--device", "cpu", "--budget-gib", "0.5", "--json"))
    assert {row["model"] for row in rows} == {"tiny-bert", "tiny-roberta"}
    lengths = [row["length"] for row in rows if row["model"] == "tiny-bert"]
    assert (lengths[0], lengths[-1], len(lengths)) == (32, 512, 8)
    largest = [row["max_micro_batch"] for row in rows if row["model"] == "tiny-bert"]
    assert largest == sorted(largest, reverse=True)
    assert largest[-1] > 0
    assert "largest micro-batch" in asked(config, "--device", "cpu", "--budget-gib", "0.5")


def test_the_verdict_cuts_the_effective_batch_in_the_fewest_passes_that_fit(config: str) -> None:
    one = ("--model", "tiny-bert", "--batch", "128", "--length", "512", "--device", "cpu", "--json")
    roomy = json.loads(asked(config, "--budget-gib", "20", *one))
    assert set(roomy) == VERDICT_KEYS
    assert (roomy["fits"], roomy["micro_batch"], roomy["accumulation_steps"]) == (True, 128, 1)
    tight = json.loads(asked(config, "--budget-gib", "0.3", *one))
    assert tight["fits"]
    assert tight["accumulation_steps"] > 1
    assert (tight["accumulation_steps"] - 1) * tight["max_micro_batch"] < 128
    assert tight["micro_batch"] * tight["accumulation_steps"] >= 128
    assert tight["need_gib"] <= 0.3 * 0.9
    nothing = json.loads(asked(config, "--budget-gib", "0.005", *one))
    assert (nothing["fits"], nothing["micro_batch"], nothing["accumulation_steps"]) == (False, None, None)
    assert nothing["need_gib"] > 0.005


def test_a_model_that_needs_checkpointing_is_marked_and_keeps_its_json_keys(config: str) -> None:
    one = ("--model", "tiny-bert", "--batch", "1", "--length", "512", "--device", "cpu")
    forbidden = ("-s", "memory.allow_checkpointing=false")
    need_gib = json.loads(asked(config, "--budget-gib", "0.01", *one, *forbidden, "--json"))["need_gib"]
    tight = ("--budget-gib", f"{0.99 * need_gib / 0.9}", *one)
    answer = json.loads(asked(config, *tight, "--json"))
    assert set(answer) == VERDICT_KEYS
    assert answer["fits"]
    assert " with checkpointing, needs" in asked(config, *tight)
    assert asked(config, *tight, *forbidden).startswith("does not fit")
    rows = json.loads(asked(config, *tight[:2], "--device", "cpu", "--json"))
    assert set(rows[0]) == VERDICT_KEYS - {"effective_batch", "fits", "micro_batch", "accumulation_steps"} | {
        "max_eval_batch"
    }
    assert [row["length"] for row in rows if row["model"] == "tiny-bert" and row["max_micro_batch"]][-1] == 512
    assert "* with checkpointing: not even one sample fits without" in asked(config, *tight[:2], "--device", "cpu")


def test_the_device_that_trials_share_is_the_budget_unless_one_is_given(config: str) -> None:
    given = ("-s", "memory.device_gib=2", "--device", "cpu", "--json")
    assert {row["budget_gib"] for row in json.loads(asked(config, *given))} == {2}
    assert {row["budget_gib"] for row in json.loads(asked(config, *given, "-s", "memory.budget_gib=1"))} == {1}
    assert {row["budget_gib"] for row in json.loads(asked(config, *given, "-s", "memory.budget_gib=3"))} == {2}
    assert {row["budget_gib"] for row in json.loads(asked(config, *given, "--budget-gib", "4"))} == {4}


def test_combinations_that_do_not_work_are_left_out_with_the_reason(config: str) -> None:
    asking = ("--device", "cpu", "--budget-gib", "0.5", "-s", "space.tok.max_length={choices: [64, 600]}")
    shown = asked(config, *asking, "-s", "space.model.name={choices: [tiny-bert, tiny-deberta]}")
    assert "left out: tiny-bert: tok.max_length: 600: this bert encoder has 512 positions" in shown
    assert {line.split()[0] for line in shown.splitlines() if line.startswith("tiny")} == {"tiny-bert", "tiny-deberta"}
    with pytest.raises(UserError, match=r"tok\.max_length: .*tiny-bert"):
        asked(config, *asking[:-1], "space.tok.max_length={choices: [600]}")


def test_a_known_model_is_answered_without_a_download(config: str) -> None:
    answer = json.loads(
        asked(
            config,
            *("--budget-gib", "24", "--model", "distilbert-base-uncased", "--batch", "16", "--length", "384"),
            "--json",
        )
    )
    assert (answer["device"], answer["precision"], answer["fits"]) == ("cuda", "bf16", True)
    # Parameters, gradients and two optimizer states of 66 million in fp32 alone.
    assert answer["need_gib"] > 66e6 * 16 / 2**30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "tiny-bert"], "--batch, --length: missing; give --model, --batch and --length"),
        (["--model", "tiny-brt", "--batch", "8", "--length", "64", "--budget-gib", "8"], "model.name: .*tiny-brt"),
    ],
)
def test_unanswerable_questions_are_refused(config: str, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        asked(config, *arguments)
