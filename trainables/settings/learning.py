"""Settings of how a model learns: loss, optimizer, schedule, steps and augmentation."""

from dataclasses import dataclass
from typing import ClassVar

from trainables.augmentations import AUGMENTATIONS
from trainables.declaration import Extensible, setting
from trainables.optimizers import OPTIMIZERS
from trainables.schedules import SCHEDULES

_ELSEWHERE = "set it outside the space"


@dataclass(frozen=True)
class LossSettings(Extensible):
    """The loss: ``smoothing`` belongs to ``label_smoothing``, ``gamma`` and ``alpha`` to ``focal``.

    No other loss reads them.

    ``alpha`` weighs every class but the first, and 1 - ``alpha`` the first; ``class_weighting`` multiplies these
    weights.
    """

    section: ClassVar[str] = "loss"

    name: str = setting(
        "cross_entropy",
        "Loss function. focal gives rows that are already right less weight.",
        choices=lambda: ("cross_entropy", "label_smoothing", "focal"),
    )
    smoothing: float = setting(
        0.1, "Share of the target that label_smoothing spreads over all classes.", at_least=0, below=1
    )
    gamma: float = setting(
        2.0, "Exponent of focal. A higher value gives rows that are already right less weight.", at_least=0, at_most=10
    )
    alpha: float = setting(
        0.5, "Weight that focal gives every class but the first. The first class has 1 - alpha.", above=0, below=1
    )
    class_weighting: str = setting(
        "none",
        "Weights of the classes by their frequency in the training part. inverse and effective_number give rare classes"
        " more weight.",
        choices=lambda: ("none", "inverse", "effective_number"),
    )


@dataclass(frozen=True)
class OptimSettings(Extensible):
    """The optimizer; ``trainables.optimizers`` lists the fields that each optimizer reads.

    ``lr`` is the step size; for ``adafactor`` it is a share of the root mean square of the updated weights. The head
    trains at ``lr``, and each layer of the encoder at ``layer_decay`` times the rate of the layer above.
    ``weight_decay`` is the share of the weights that a step of rate 1 would remove.
    """

    section: ClassVar[str] = "optim"

    name: str = setting(
        "adamw",
        "Optimizer. lion and adamw_8bit need the extras lion and 8bit.",
        choices=lambda: OPTIMIZERS,
    )
    lr: float = setting(
        5e-5,
        "Peak learning rate of the head. For adafactor it is relative to the size of the weights.",
        above=0,
        at_most=1,
    )
    layer_decay: float = setting(
        1.0, "Ratio of each layer's learning rate to that of the layer above it.", above=0, at_most=1
    )
    weight_decay: float = setting(
        0.01, "Share of the weights that an optimizer step with learning rate 1 would remove.", at_least=0, at_most=1
    )
    beta1: float = setting(0.9, "Decay of the mean of gradients.", at_least=0, below=1)
    beta2: float = setting(0.999, "Decay of the mean of squared gradients.", at_least=0, below=1)
    # Below 1e-20 squares of gradients are 0 in fp32, and steps infinite.
    eps: float = setting(1e-8, "Constant that keeps the optimizer from dividing by zero.", at_least=1e-20, below=1)


@dataclass(frozen=True)
class ScheduleSettings(Extensible):
    """The schedule: ``warmup_ratio`` is the share of all optimizer steps during which the rate rises.

    ``cycles`` counts the cosines of ``cosine_restarts``; ``power`` bends ``polynomial``. No other schedule reads them.
    """

    section: ClassVar[str] = "schedule"

    name: str = setting(
        "linear",
        "Course of the learning rate after the warmup.",
        choices=lambda: SCHEDULES,
    )
    warmup_ratio: float = setting(
        0.1, "Share of the optimizer steps during which the learning rate rises.", at_least=0, below=1
    )
    cycles: int = setting(2, "Number of cosine cycles of cosine_restarts.", above=0, at_most=100)
    power: float = setting(2.0, "Exponent of polynomial. 1 is a straight line.", above=0, at_most=10)


@dataclass(frozen=True)
class TrainSettings(Extensible):
    """Training: ``batch_size`` x ``grad_accum`` is the effective batch; ``patience`` counts epochs (None: no limit).

    ``checkpointing`` recomputes activations from the start, whether memory is short or not.
    """

    section: ClassVar[str] = "train"

    batch_size: int = setting(
        16, "Batch size. With grad_accum 1 it is the effective batch, whatever fits at once.", above=0, at_most=65536
    )
    grad_accum: int = setting(
        1, "Factor of the effective batch, which is batch_size × grad_accum.", above=0, at_most=4096
    )
    epochs: int = setting(
        3,
        "Maximum number of epochs.",
        above=0,
        at_most=10_000,
        same_in_study="it is the scheduler's scale; set it outside the space",
    )
    precision: str = setting(
        "auto",
        "Precision of the computation. auto uses bf16 on devices that are fast at it, else fp32.",
        choices=lambda: ("auto", "fp32", "bf16"),
        same_in_study=_ELSEWHERE,
    )
    tf32: bool = setting(
        True, "Use TF32 for matrix products of fp32 on CUDA.", same_in_study=_ELSEWHERE, compared=False
    )
    patience: int | None = setting(
        None,
        "End training after this many epochs without improvement. null never does.",
        above=0,
        same_in_study=_ELSEWHERE,
    )
    clip_norm: float = setting(1.0, "Maximum norm of the gradient. 0 disables clipping.", at_least=0)
    checkpointing: bool = setting(
        False,
        "Recompute activations in every backward pass, which takes less memory and more time.",
        compared=False,
    )

    @property
    def effective_batch(self) -> int:
        return self.batch_size * self.grad_accum


@dataclass(frozen=True)
class AugmentSettings(Extensible):
    """Augmentation of training texts: ``name`` is none, mask, delete or swap, applied to single tokens.

    ``probability`` is the share of rows that are augmented in an epoch. ``strength`` is the share of a text's tokens
    that change; evidence stays unchanged. ``rows`` is all, or positives: rows of any class but the first.
    """

    section: ClassVar[str] = "augment"

    name: str = setting(
        "none",
        "Change to tokens of training texts, drawn anew each epoch. Evidence is never changed.",
        choices=lambda: AUGMENTATIONS,
    )
    probability: float = setting(0.3, "Share of the rows that are augmented in an epoch.", above=0, at_most=1)
    strength: float = setting(0.1, "Share of a text's tokens that change.", above=0, below=1)
    rows: str = setting(
        "all",
        "Rows that may be augmented. positives are the rows of every class but the first.",
        choices=lambda: ("all", "positives"),
    )
