"""Recommended settings of a model, best first. Cheap to import (no torch)."""

from trainables.models import recipes
from trainables.models.families import FAMILIES, Architecture, Family, obstacles
from trainables.models.recipes import Recipe, Scalar

_UNKNOWN = Architecture("unknown")
_BASE_HIDDEN, _BASE_LAYERS = 768, 12


def recipe_for(architecture: Architecture | None) -> Recipe:
    """Return the recipe recommended for a model of this family and size.

    An unknown family or model (None) gets BERT's recipe for its size, and an unknown size counts as base. Encoders with
    random weights have their own recipes, whatever their family.
    """
    model = architecture or _UNKNOWN
    family = FAMILIES.get(model.model_type, Family())
    candidates = family.recommended if model.pretrained else recipes.FROM_SCRATCH
    hidden, layers = model.hidden or _BASE_HIDDEN, model.layers or _BASE_LAYERS
    return next(recipe for recipe in candidates if recipe.suits(hidden, layers))


def recommendations(architecture: Architecture | None) -> list[dict[str, Scalar]]:
    """Return the recommended settings of a model by dotted name: the recipe's centre first, then its alternatives.

    Settings that the model cannot follow are left out. For instance, an unknown family has no known fields for dropout.
    See ``recipe_for`` for models without a published recipe.
    """
    model = architecture or _UNKNOWN
    return [
        {name: value for name, value in settings.items() if not obstacles(model, {name: value})}
        for settings in recipe_for(model).configurations()
    ]
