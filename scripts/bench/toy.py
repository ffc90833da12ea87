"""Toy search problem, published whole: half of its space does not fit in memory.

Model (eight encoders by their published shapes), batch and length set a step's need; accumulation and learning rate do
not. The need is the closed formula of ``ToyModel.need_gib``. It counts 16 bytes per parameter (weight, gradient and two
moments of Adam in fp32) and the activations of each layer: batch · length · hidden · (34 + 5 · heads · length / hidden)
bytes, from Korthikanti et al., "Reducing activation recomputation in large transformer models" (2022). The budget lies
between the two middle needs of all configurations, so that exactly half of the space fits.
``python scripts/bench/toy.py`` prints the shares.

Objectives: ``random`` is unrelated to the configuration; ``big`` favours big models, so that quality pulls a
searcher to the limit of memory. Both draw their noise from a hash of seed and configuration: equal for equal arguments.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from search_spaces.space import Params, Scalar, Space, parse_space

GIB = 2**30
OBJECTIVES = ("random", "big")
# Part of the model's size in ``big``; the rest is noise.
_WEIGHT_OF_SIZE = 0.7


@dataclass(frozen=True)
class ToyModel:
    """Encoder reduced to the sizes that set its need."""

    parameters: float
    layers: int
    hidden: int
    heads: int

    def need_gib(self, batch: int, length: int) -> float:
        """Return the peak of one training step with ``batch`` samples of ``length`` tokens at once, in GiB."""
        per_token = self.hidden * (34 + 5 * self.heads * length / self.hidden)
        return (16 * self.parameters + self.layers * batch * length * per_token) / GIB


MODELS: dict[str, ToyModel] = {
    "MiniLM-L12-H384": ToyModel(33e6, 12, 384, 12),
    "distilbert": ToyModel(66e6, 6, 768, 12),
    "bert-base": ToyModel(110e6, 12, 768, 12),
    "roberta-base": ToyModel(125e6, 12, 768, 12),
    "deberta-base": ToyModel(184e6, 12, 768, 12),
    "bert-large": ToyModel(335e6, 24, 1024, 16),
    "roberta-large": ToyModel(355e6, 24, 1024, 16),
    "deberta-large": ToyModel(434e6, 24, 1024, 16),
}


@dataclass(frozen=True)
class ToyProblem:
    """Search space, and the need and value of its configurations."""

    objective: str

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective {self.objective!r} is not one of {', '.join(OBJECTIVES)}")

    @cached_property
    def space(self) -> Space:
        return parse_space(
            {
                "model.name": {"choices": list(MODELS)},
                "train.batch_size": {"choices": [4, 8, 16, 32, 64, 128]},
                "train.grad_accum": {"choices": [1, 2, 4]},
                "tok.max_length": {"choices": [128, 256, 384, 512]},
                "optim.lr": {"choices": [1e-5, 2e-5, 5e-5, 1e-4]},
            }
        )

    @cached_property
    def budget_gib(self) -> float:
        """Return the mean of the two middle needs."""
        needs = sorted(need_gib(params) for params in self.configurations())
        return (needs[len(needs) // 2 - 1] + needs[len(needs) // 2]) / 2

    def configurations(self) -> Iterator[Params]:
        assert self.space.size is not None, "the space has choices only"
        return (self.space.config_at(index) for index in range(self.space.size))

    def need_gib(self, params: Mapping[str, Scalar]) -> float:
        return need_gib(params)

    def fits(self, params: Mapping[str, Scalar]) -> bool:
        return self.need_gib(params) <= self.budget_gib

    @property
    def share_that_fits(self) -> float:
        fitting = [self.fits(params) for params in self.configurations()]
        return sum(fitting) / len(fitting)

    def value(self, params: Mapping[str, Scalar], seed: int) -> float:
        """Return the value of a configuration, between 0 and 1, higher is better."""
        drawn = noise(f"{self.objective}:{seed}:{self.space.key(params)}")
        if self.objective == "random":
            return drawn
        return _WEIGHT_OF_SIZE * relative_size(str(params["model.name"])) + (1 - _WEIGHT_OF_SIZE) * drawn


def need_gib(params: Mapping[str, Scalar]) -> float:
    """Return the need of a configuration's step in GiB, with its whole batch at once; accumulation adds nothing."""
    model = MODELS[str(params["model.name"])]
    return model.need_gib(int(params["train.batch_size"]), int(params["tok.max_length"]))


def relative_size(model: str) -> float:
    """Return 0 for the smallest model and 1 for the largest, evenly in the logarithm of the parameters."""
    sizes = [math.log(known.parameters) for known in MODELS.values()]
    return (math.log(MODELS[model].parameters) - min(sizes)) / (max(sizes) - min(sizes))


def noise(key: str) -> float:
    """Return a number that is uniform in [0, 1) and equal for equal keys."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def main() -> None:
    """Print the space, the budget and the share of each model that fits."""
    problem = ToyProblem("random")
    print(f"{problem.space.describe()}; budget {problem.budget_gib:.3f} GiB; {problem.share_that_fits:.1%} fit")
    for name in MODELS:
        own = [params for params in problem.configurations() if params["model.name"] == name]
        needs = [need_gib(params) for params in own]
        share = sum(map(problem.fits, own)) / len(own)
        print(f"{name:<15} {min(needs):6.2f} to {max(needs):6.2f} GiB  {share:6.1%} fit")


if __name__ == "__main__":
    main()
