"""Hand-made limits: the samples that they reject, the reason, and the excess."""

from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from search_spaces.rules import (
    NAMED_FAMILY_LIMITS,
    NAMED_LIMITS,
    AccumulationRule,
    CombinationRule,
    FamilyRule,
    LimitSet,
    MemoryRule,
    PredictedFit,
    Rule,
    Sample,
    SizeClassRule,
    SizeLimits,
    Violation,
    size_class,
    violations,
)


def unknown(model: str) -> int | None:
    return None


USERS_24GB = SizeClassRule(NAMED_LIMITS["users_24gb"], unknown, lambda model: "xlm-roberta" in model)


def sample(model: str, batch: int, accumulation: int, length: int) -> Sample:
    return Sample(model=model, batch=batch, accumulation=accumulation, length=length)


@pytest.mark.parametrize(
    ("model", "batch", "accumulation", "length"),
    [
        ("bert-large-uncased", 16, 4, 384),
        ("bert-large-uncased", 16, 1, 384),
        ("bert-large-uncased", 8, 8, 384),
        ("bert-large-uncased", 1, 64, 8),
        ("roberta-large", 16, 4, 384),
        ("microsoft/deberta-v3-large", 16, 4, 384),
        ("xlm-roberta-base", 16, 4, 384),
        ("bert-base-uncased", 64, 8, 512),
        ("bert-base-uncased", 32, 4, 512),
        ("roberta-base", 48, 6, 512),
        ("microsoft/deberta-v3-base", 64, 8, 512),
    ],
)
def test_the_corners_of_the_24_gb_limits_pass(model: str, batch: int, accumulation: int, length: int) -> None:
    assert USERS_24GB.check(sample(model, batch, accumulation, length)) is None


@pytest.mark.parametrize(
    ("model", "batch", "accumulation", "length", "excess", "what"),
    [
        ("bert-large-uncased", 48, 4, 480, 2.0, "batch 48 > 16, effective batch 192 > 64, length 480 > 384"),
        ("bert-large-uncased", 17, 1, 384, 1 / 16, "batch 17 > 16"),
        ("bert-large-uncased", 13, 5, 384, 1 / 64, "effective batch 65 > 64"),
        ("bert-large-uncased", 16, 4, 385, 1 / 384, "length 385 > 384"),
        ("roberta-large", 8, 16, 128, 1.0, "effective batch 128 > 64"),
        ("FacebookAI/xlm-roberta-base", 32, 1, 128, 1.0, "batch 32 > 16"),
        ("bert-base-uncased", 65, 1, 512, 1 / 64, "batch 65 > 64"),
        ("bert-base-uncased", 64, 9, 512, 0.125, "effective batch 576 > 512"),
        ("bert-base-uncased", 8, 1, 1024, 1.0, "length 1024 > 512"),
    ],
)
def test_one_step_beyond_a_corner_is_rejected_with_its_excess(
    model: str, batch: int, accumulation: int, length: int, excess: float, what: str
) -> None:
    found = USERS_24GB.check(sample(model, batch, accumulation, length))
    assert found is not None
    assert found.rule == "size_limits"
    assert found.excess == pytest.approx(excess)
    assert f": {what} for a " in found.reason


def test_the_reason_names_model_batch_accumulation_and_length() -> None:
    found = USERS_24GB.check(sample("bert-large-uncased", 48, 4, 480))
    assert found is not None
    assert found.excess == 2.0
    assert found.reason.startswith("model bert-large-uncased, batch 48, accumulation 4, length 480: ")
    assert found.reason.endswith(" for a large model")


@pytest.mark.parametrize(("model", "expected"), [("bert-large-uncased", 28), ("bert-base-uncased", 0)])
def test_28_of_42_large_draws_are_rejected_and_no_base_draw(model: str, expected: int) -> None:
    draws = list(product([8, 12, 16, 24, 32, 48, 64], [1, 2, 3, 4, 6, 8]))
    rejected = [draw for draw in draws if USERS_24GB.check(sample(model, *draw, length=384))]
    assert (len(rejected), len(draws)) == (expected, 42)


@pytest.mark.parametrize(
    ("model", "parameters", "expected"),
    [
        ("bert-large-uncased", None, "large"),
        ("BERT-Large", None, "large"),
        ("xlm-roberta-base", None, "large"),
        ("FacebookAI/xlm-roberta-base", None, "large"),
        ("bert-base-uncased", None, "base"),
        ("anything", None, "base"),
        ("anything", 340_000_000, "large"),
        ("anything", 270_000_000, "large"),
        ("anything", 184_000_000, "base"),
        ("anything", 110_000_000, "base"),
        ("anything", 22_000_000, "small"),
        ("my-large-folder/bert-base", 110_000_000, "base"),
        ("bert-large-pruned", 30_000_000, "small"),
        ("tiny-in-name-only", 400_000_000, "large"),
    ],
)
def test_a_known_parameter_count_decides_the_size_and_the_name_only_without(
    model: str, parameters: int | None, expected: str
) -> None:
    assert size_class(model, parameters, large_vocabulary="xlm-roberta" in model.lower()) == expected


def test_the_rule_asks_for_the_parameter_count_of_the_model_at_hand() -> None:
    counts = {"big": 400_000_000, "little": 5_000_000}
    rule = SizeClassRule(NAMED_LIMITS["users_24gb"], counts.get)
    assert rule.check(sample("big", 17, 1, 128)) is not None
    assert rule.check(sample("little", 4096, 64, 8192)) is None


def test_small_models_are_free_under_the_24_gb_limits() -> None:
    assert NAMED_LIMITS["users_24gb"].small == SizeLimits()


def test_a_named_set_can_be_changed_in_part() -> None:
    limits = LimitSet.model_validate({"from": "users_24gb", "large": {"batch": 8}, "small": {"length": 128}})
    assert limits.large == SizeLimits(batch=8, effective_batch=64, length=384)
    assert limits.base == NAMED_LIMITS["users_24gb"].base
    assert limits.small == SizeLimits(length=128)


def test_null_lifts_a_limit_of_the_named_set() -> None:
    limits = LimitSet.model_validate({"from": "users_24gb", "large": {"batch": None}})
    assert limits.large == SizeLimits(effective_batch=64, length=384)


def test_changing_a_named_set_leaves_the_set_itself_alone() -> None:
    LimitSet.model_validate({"from": "users_24gb", "large": {"batch": 8}})
    assert NAMED_LIMITS["users_24gb"].large.batch == 16


def test_merged_settings_are_written_in_full() -> None:
    merged = LimitSet.model_validate({"from": "users_24gb", "large": {"batch": 8}})
    written = merged.model_dump(by_alias=True)
    assert written["from"] is None
    assert written["large"] == {"batch": 8, "effective_batch": 64, "length": 384}
    assert LimitSet.model_validate(written) == merged


def test_limits_of_ones_own_hold_nothing_else() -> None:
    rule = SizeClassRule(LimitSet.model_validate({"base": {"effective_batch": 100}}), unknown)
    assert rule.check(sample("bert-base-uncased", 50, 2, 4096)) is None
    assert rule.check(sample("bert-base-uncased", 51, 2, 4096)) is not None
    assert rule.check(sample("bert-large-uncased", 4096, 64, 4096)) is None


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ({"from": "users_80gb"}, "unknown set of limits; known: users_24gb"),
        ({"huge": {"batch": 1}}, "huge"),
        ({"base_set": "users_24gb"}, "base_set"),
        ({"large": {"bach": 1}}, "bach"),
        ({"large": {"batch": 0}}, "greater than 0"),
        ({"large": {"batch": "16"}}, "valid integer"),
        ({"large": {"batch": True}}, "valid integer"),
        ({"large": {"batch": 16.0}}, "valid integer"),
        ({"large": 16}, "large"),
    ],
)
def test_limits_that_mean_nothing_are_refused(raw: Any, part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        LimitSet.model_validate(raw)


def predicted(
    need_gib: float, passes: int | None, *, micro_batch: int = 8, checkpointing: bool = False
) -> PredictedFit:
    """Return a prediction for a card of 24 GiB, a tenth of which stays free."""
    return PredictedFit(need_gib, 21.6, 24.0, micro_batch if passes else 0, passes, checkpointing)


LARGE = sample("bert-large-uncased", 64, 4, 512)


def test_a_sample_that_does_not_fit_alone_is_rejected_with_its_excess() -> None:
    found = MemoryRule(lambda _: predicted(27.4, None, checkpointing=True)).check(LARGE)
    assert found == Violation(
        rule="memory",
        reason="model bert-large-uncased, batch 64, accumulation 4, length 512: needs 27.40 GiB at micro-batch 1 with"
        " checkpointing, 21.60 allowed of 24.00",
        excess=pytest.approx(27.4 / 21.6 - 1),
    )
    plain = MemoryRule(lambda _: predicted(27.4, None)).check(LARGE)
    assert plain is not None
    assert "at micro-batch 1, 21.60 allowed" in plain.reason


def test_a_sample_with_too_many_passes_is_rejected_with_its_excess() -> None:
    found = AccumulationRule(lambda _: predicted(6.0, 32), max_accumulation=16).check(LARGE)
    assert found == Violation(
        rule="accumulation",
        reason="model bert-large-uncased, batch 64, accumulation 4, length 512: takes 32 passes a step at micro-batch 8"
        " (21.60 GiB allowed of 24.00), 32 > 16",
        excess=1.0,
    )


@pytest.mark.parametrize("passes", [1, 15, 16])
def test_a_sample_with_few_enough_passes_is_accepted(passes: int) -> None:
    fit = predicted(6.0, passes)
    assert violations([MemoryRule(lambda _: fit), AccumulationRule(lambda _: fit, 16)], LARGE) == []


def test_a_sample_that_cannot_run_violates_only_the_memory_rule() -> None:
    fit = predicted(27.4, None)
    found = violations([MemoryRule(lambda _: fit), AccumulationRule(lambda _: fit, 1)], LARGE)
    assert [violation.rule for violation in found] == ["memory"]


def test_an_unpredictable_sample_is_not_rejected() -> None:
    assert violations([MemoryRule(lambda _: None), AccumulationRule(lambda _: None, 1)], LARGE) == []


FAMILY_OF = {"microsoft/deberta-v3-base": "deberta", "bert-base-uncased": "bert", "roberta-large": "roberta"}


def family_sample(model: str, batch: int, length: int, **params: Any) -> Sample:
    return Sample(model=model, batch=batch, accumulation=8, length=length, params=params)


@pytest.mark.parametrize(
    ("model", "batch", "length", "layers"),
    [
        ("microsoft/deberta-v3-base", 64, 384, 2),
        ("bert-base-uncased", 128, 512, 3),
        ("roberta-large", 128, 512, 3),
        ("distilbert-base-uncased", 4096, 8192, 9),
    ],
)
def test_the_corners_of_the_family_limits_pass_and_one_step_beyond_is_rejected(
    model: str, batch: int, length: int, layers: int
) -> None:
    rule = FamilyRule(NAMED_FAMILY_LIMITS["users_families"], FAMILY_OF.get)
    assert rule.check(family_sample(model, batch, length, **{"head.layers": layers})) is None
    free = model not in FAMILY_OF
    for beyond in (
        family_sample(model, batch + 1, length),
        family_sample(model, batch, length + 1),
        family_sample(model, batch, length, **{"head.layers": layers + 1}),
    ):
        assert (rule.check(beyond) is None) == free


def test_a_violated_family_limit_names_the_family_and_what_was_exceeded() -> None:
    rule = FamilyRule(NAMED_FAMILY_LIMITS["users_families"], {"mine": "deberta"}.get)
    found = rule.check(family_sample("mine", 96, 480, **{"head.layers": 3}))
    assert found is not None
    assert (found.rule, found.excess) == ("family_limits", 0.5)
    assert found.reason.startswith("model mine, batch 96, accumulation 8, length 480: batch 96 > 64, length 480 > 384")
    assert found.reason.endswith("layers of the head 3 > 2 for a deberta model")


def test_a_head_without_layers_of_its_own_is_within_every_limit() -> None:
    rule = FamilyRule(NAMED_FAMILY_LIMITS["users_families"], FAMILY_OF.get)
    assert rule.check(family_sample("bert-base-uncased", 128, 512)) is None


class LongTexts:
    """Rule of another kind."""

    @property
    def name(self) -> str:
        return "long_texts"

    def check(self, sample: Sample) -> Violation | None:
        return Violation(self.name, f"{sample}: too long", sample.length / 100 - 1) if sample.length > 100 else None


def test_every_rule_is_asked_and_their_objections_come_in_order() -> None:
    rules: list[Rule] = [LongTexts(), USERS_24GB]
    found = violations(rules, sample("bert-large-uncased", 32, 1, 200))
    assert [violation.rule for violation in found] == ["long_texts", "size_limits"]
    assert [violation.excess for violation in found] == [1.0, 1.0]
    assert violations(rules, sample("bert-large-uncased", 16, 1, 100)) == []
    assert violations([], sample("bert-large-uncased", 48, 4, 480)) == []


def test_a_sample_is_read_from_a_whole_configuration_by_dotted_names() -> None:
    params = {
        "model.name": "bert-base-uncased",
        "train.batch_size": 24,
        "train.grad_accum": 3,
        "tok.max_length": 160,
        "optim.lr": 1e-5,
    }
    read = Sample.of(params)
    assert (read.model, read.batch, read.accumulation, read.length) == ("bert-base-uncased", 24, 3, 160)
    assert read.params == params
    assert read.effective_batch == 72
    assert str(read) == "model bert-base-uncased, batch 24, accumulation 3, length 160"


@pytest.mark.parametrize("missing", ["model.name", "train.batch_size", "train.grad_accum", "tok.max_length"])
def test_an_incomplete_configuration_cannot_be_checked(missing: str) -> None:
    params = {"model.name": "x", "train.batch_size": 1, "train.grad_accum": 1, "tok.max_length": 8}
    del params[missing]
    with pytest.raises(KeyError, match=missing):
        Sample.of(params)


def test_an_impossible_combination_is_rejected_and_not_predicted() -> None:
    def never(_: Sample) -> PredictedFit | None:
        raise AssertionError("there is no memory to predict")

    rules = [CombinationRule(lambda params: params["problems"]), MemoryRule(never)]
    sample = family_sample("mine", 8, 128, problems=["a cannot be", "b cannot be"])
    (violation,) = violations(rules, sample)
    assert (violation.rule, violation.excess) == ("combination", 2.0)
    assert violation.reason == f"{sample}: the combination: a cannot be; b cannot be"
    fine = family_sample("mine", 8, 128, problems=[])
    with pytest.raises(AssertionError, match="no memory to predict"):
        violations(rules, fine)
