"""Rules that a configuration chooses, their rejections in a space, and spaces of which nothing is left."""

import re
from typing import Any

import pytest

from search_spaces.rules import NAMED_LIMITS, AccumulationRule, MemoryRule, PredictedFit, Rule, Sample, SizeClassRule
from search_spaces.space import Params, parse_space
from trainables.devices.facts import TrialDevice
from trainables.devices.host import GIB
from trainables.machine import MachineFiles
from trainables.planning.kernels import CudaKernels
from tune_app.config import parse_config
from tune_app.errors import UserError
from tune_app.screening.filtering import build_rules, check_something_runs, count_rejections
from tune_app.screening.packing import Packing

FIXED: Params = {"model.name": "bert-base", "train.batch_size": 16, "train.grad_accum": 1, "tok.max_length": 128}


def new_packing(*overrides: str, total_gib: float = 24.0, gpus: Any = "auto") -> Packing:
    config = parse_config({"study": {"name": "test"}, "data": {"path": "demo"}}, overrides)
    device = TrialDevice("cuda", total_gib, bf16=True)
    return Packing(config.trial_settings(), device, gpus=gpus, passes=4, files=MachineFiles(), say=lambda text: None)


@pytest.mark.parametrize(
    ("limits", "max_accumulation", "names"),
    [
        ("predicted", "16", ["memory", "accumulation"]),
        ("predicted", "null", ["memory"]),
        ("users_24gb", "16", ["size_limits"]),
        ("users_families", "16", ["family_limits"]),
        ("{small: {batch: 8}}", "16", ["size_limits"]),
        (
            "[users_24gb, predicted, users_families]",
            "16",
            ["size_limits", "memory", "accumulation", "family_limits"],
        ),
        ("null", "16", []),
    ],
)
def test_a_configuration_chooses_its_rules(limits: str, max_accumulation: str, names: list[str]) -> None:
    config = parse_config(
        {"study": {"name": "test"}, "data": {"path": "demo"}},
        [f"limits={limits}", f"memory.max_accumulation={max_accumulation}"],
    )
    rules = build_rules(config.limits, config.memory.max_accumulation, new_packing())
    assert [rule.name for rule in rules] == names


def test_the_family_of_a_built_in_model_is_known() -> None:
    (rule,) = build_rules(("users_families",), None, new_packing())
    assert rule.check(Sample("tiny-deberta", 65, 1, 128)) is not None
    assert rule.check(Sample("tiny-bert", 65, 1, 128)) is None


def linear_fit(sample: Sample) -> PredictedFit:
    """Return the fit on a card where 1 GiB holds 16 samples of any model but ``giant``, which does not fit."""
    if sample.model == "giant":
        return PredictedFit(1.2, 1.0, 1.0, 0, None, checkpointing=False)
    return PredictedFit(0.1, 1.0, 1.0, 16, -(-sample.effective_batch // 16), checkpointing=False)


PREDICTED: list[Rule] = [MemoryRule(linear_fit), AccumulationRule(linear_fit, max_accumulation=4)]


def test_in_a_small_space_the_shares_are_exact_and_what_rules_do_not_look_at_does_not_count() -> None:
    space = parse_space(
        {
            "model.name": {"choices": ["bert-base", "bert-large", "giant", "tiny"]},
            "train.batch_size": {"choices": [16, 32, 64, 128, 256]},
            "optim.lr": {"low": 1e-5, "high": 1e-3, "log": True},
        }
    )
    found = count_rejections(
        [*PREDICTED, SizeClassRule(NAMED_LIMITS["users_24gb"], lambda model: None)], space, FIXED, 0
    )
    # The space has 20 configurations. Memory rejects all 5 of giant,
    # and accumulation the batches of 128 and 256 of the others.
    # Size_limits rejects batches above 16 of large models and above 64 of base models.
    assert found.shares == pytest.approx({"memory": 5 / 20, "accumulation": 6 / 20, "size_limits": 10 / 20})
    assert (found.can_run, found.sampled, found.counted) == (pytest.approx(7 / 20), False, 20)
    assert [(one.setting, one.value, one.share) for one in found.suffering["memory"]] == [("model.name", "giant", 1.0)]
    assert [(one.value, one.share) for one in found.suffering["accumulation"][:2]] == [(128, 0.75), (256, 0.75)]
    assert str(found) == (
        "rules: memory rejects 25.0 % of the space, accumulation 30.0 %, size_limits 50.0 %; 35.0 % can run"
    )


def test_a_large_space_is_estimated_from_a_sample_that_is_the_same_every_time() -> None:
    space = parse_space({"train.batch_size": {"low": 1, "high": 128}, "head.dropout": {"low": 0.0, "high": 0.5}})
    found = count_rejections(PREDICTED, space, FIXED, seed=7)
    assert found.sampled
    assert found.shares["accumulation"] == pytest.approx(0.5, abs=0.06)
    assert count_rejections(PREDICTED, space, FIXED, seed=7) == found
    assert count_rejections(PREDICTED, space, FIXED, seed=8) != found
    assert "; about 5" in str(found)


def test_which_optimizer_it_is_is_looked_at() -> None:
    def fit(sample: Sample) -> PredictedFit:
        fits = sample.params["optim.name"] == "adafactor"
        return PredictedFit(0.5 if fits else 1.5, 1.0, 1.0, int(fits), 1 if fits else None, checkpointing=False)

    space = parse_space({"optim.name": {"choices": ["adamw", "adafactor"]}, "optim.eps": {"low": 1e-9, "high": 1e-6}})
    found = count_rejections([MemoryRule(fit)], space, FIXED, 0)
    assert (found.can_run, found.sampled) == (0.5, False)


@pytest.mark.parametrize(("batch", "can_run"), [(16, 1.0), (1024, 0.0)])
def test_rules_that_read_no_searched_setting_accept_all_or_nothing(batch: int, can_run: float) -> None:
    space = parse_space({"optim.lr": {"low": 1e-5, "high": 1e-3}})
    found = count_rejections(PREDICTED, space, {**FIXED, "train.batch_size": batch}, 0)
    assert (found.can_run, found.sampled) == (can_run, False)


MODELS = {"model.name": {"choices": ["tiny-bert", "small-bert"]}, "tok.max_length": {"choices": [64, 512]}}


@pytest.mark.parametrize(
    ("overrides", "options", "start"),
    [
        (["memory.budget_gib=0.01"], {}, "memory.budget_gib: 0.01 is less than any model of the space needs"),
        ([], {"gpus": 0.001}, "resources.gpu: 0.001 of 24 GiB is less than any model of the space needs"),
        (["memory.device_gib=0.1"], {"total_gib": 0.1}, "memory.device_gib: 0.1 is less than any model of the space"),
        ([], {"total_gib": 0.1}, "model.name: the device's 0.1 GiB (cuda) is less than any model of the space needs"),
    ],
)
def test_a_space_of_which_nothing_fits_is_refused_with_the_least_need(
    overrides: list[str], options: Any, start: str
) -> None:
    packing = new_packing(*overrides, **options)
    found = count_rejections(build_rules(("predicted",), 16, packing), parse_space(MODELS), FIXED, 0)
    with pytest.raises(UserError) as caught:
        check_something_runs(found, packing)
    message = str(caught.value)
    assert message.startswith(start)
    assert "(model tiny-bert, batch 16, accumulation 1, length 64: needs" in message
    least = re.search(r"needs (\S+) GiB at micro-batch 1 with checkpointing", message)
    assert least is not None, message
    beside_tensors = CudaKernels.overhead_bytes / GIB
    assert beside_tensors < float(least[1]) < beside_tensors + 0.05
    assert message.endswith("add smaller models or lengths to the space")
    assert ("raise it" in message) == (not start.startswith("model.name"))


def test_a_space_that_several_rules_turn_away_is_refused_with_what_comes_nearest() -> None:
    space = parse_space({"model.name": {"choices": ["giant", "tiny"]}, "train.batch_size": {"choices": [80, 512]}})
    found = count_rejections(PREDICTED, space, FIXED, 0)
    with pytest.raises(UserError) as caught:
        check_something_runs(found, new_packing())
    message = str(caught.value)
    assert message.startswith("limits: the rules reject the whole space (the nearest: model giant, batch 80")
    assert message.endswith("add smaller models or lengths to the space")
    accumulation = count_rejections(PREDICTED[1:], parse_space({"train.batch_size": {"choices": [80, 512]}}), FIXED, 0)
    with pytest.raises(UserError, match=r"batch 80.* 5 > 4\); raise memory\.max_accumulation"):
        check_something_runs(accumulation, new_packing())


PLUGIN = """
from search_spaces.rules import RuleEntry, Violation


class ShortTexts:
    name = "short_texts"
    remedy = "add shorter lengths to the space"

    def check(self, sample):
        return Violation(self.name, f"{sample}: too long", 1.0) if sample.length > 128 else None


SHORT_TEXTS = RuleEntry(lambda facts: [ShortTexts()])
"""


def plugin_rules(install_plugin: Any, address: str = "short_texts:SHORT_TEXTS") -> list[Rule]:
    install_plugin({"short_texts.py": PLUGIN}, {"headroom.rules": {"short_texts": address}})
    config = parse_config(
        {"study": {"name": "test"}, "data": {"path": "demo"}}, ["limits=[short_texts, {small: {batch: 8}}]"]
    )
    return build_rules(config.limits, None, new_packing())


def test_a_rule_of_another_distribution_counts_and_its_remedy_is_told(install_plugin: Any) -> None:
    rules = plugin_rules(install_plugin)
    assert [rule.name for rule in rules] == ["short_texts", "size_limits"]
    lengths = parse_space({"tok.max_length": {"choices": [64, 128, 256, 512]}})
    assert count_rejections(rules, lengths, FIXED, seed=0).shares == {"short_texts": 0.5, "size_limits": 0.0}
    too_long = parse_space({"tok.max_length": {"choices": [256, 512]}})
    with pytest.raises(UserError, match=r"^limits: the rules reject the whole space .*; add shorter lengths to the"):
        check_something_runs(count_rejections(rules, too_long, FIXED, seed=0), new_packing())


def test_a_rule_of_another_distribution_that_cannot_be_used_is_bad_input(install_plugin: Any) -> None:
    with pytest.raises(UserError, match=r"^limits: short_texts: the entry .*headroom-plugin: .*mend or uninstall it$"):
        plugin_rules(install_plugin, "short_texts:ABSENT")
