"""Recommended configurations: in the space, in turn between models, and at or near published values."""

import itertools

from search_spaces.conditions import ActiveSpace
from search_spaces.space import Params, parse_space
from trainables.models.sizes import architecture
from tune_app.sampling.recommended import recommended_turns

MODELS = ["bert-base-uncased", "roberta-large", "microsoft/deberta-v3-base"]
SPACE = ActiveSpace(
    parse_space(
        {
            "model.name": {"choices": MODELS},
            "tok.max_length": {"choices": [128, 256, 384, 512]},
            "head.layers": {"low": 0, "high": 3},
            "head.width": {"choices": [256, 512]},
            "optim.lr": {"low": 5e-6, "high": 1e-4, "log": True},
            "train.batch_size": {"choices": [4, 8, 16]},
            "train.grad_accum": {"choices": [1, 2, 4]},
        }
    )
)


def first_of_turns(count: int, seed: int = 0, models: list[str] = MODELS) -> list[Params]:
    known = {name: architecture(name, fetch=False) for name in models}
    return [next(turn) for turn in itertools.islice(recommended_turns(SPACE, known, seed), count)]


def test_models_take_turns() -> None:
    found = first_of_turns(6)
    assert [params["model.name"] for params in found] == MODELS * 2
    assert found[0]["optim.lr"] != found[3]["optim.lr"], "the second turn brings the next published point"


def test_every_parameter_has_the_value_nearest_to_the_published_one() -> None:
    bert, roberta, deberta = first_of_turns(3)
    assert (bert["optim.lr"], roberta["optim.lr"], deberta["optim.lr"]) == (3e-5, 1e-5, 2e-5)
    assert int(bert["train.batch_size"]) * int(bert["train.grad_accum"]) == 32
    assert (bert["train.batch_size"], bert["train.grad_accum"]) == (16, 2), "the least accumulation"
    assert bert["head.layers"] == 0
    assert all(SPACE.space.contains(params) for params in first_of_turns(15))


def test_values_that_no_recommendation_names_are_drawn_and_differ_within_a_turn() -> None:
    known = {name: architecture(name, fetch=False) for name in MODELS}
    turn = [params["tok.max_length"] for params in next(recommended_turns(SPACE, known, seed=1))]
    assert len(turn) == 3
    drawn = {params["tok.max_length"] for seed in range(8) for params in first_of_turns(3, seed)}
    assert drawn == {128, 256, 384, 512}
    assert first_of_turns(6, seed=3) == first_of_turns(6, seed=3)


def test_a_model_that_nothing_is_known_of_has_the_recipe_of_a_base_sized_bert() -> None:
    (params,) = first_of_turns(1, models=["somebody/else"])
    assert params["optim.lr"] == 3e-5
