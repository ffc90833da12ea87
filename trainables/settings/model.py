"""Settings of the model: its encoders, its inputs and its head."""

from dataclasses import dataclass
from typing import ClassVar

from trainables.declaration import Extensible, setting
from trainables.poolings import POOLINGS


@dataclass(frozen=True)
class ModelSettings(Extensible):
    """The encoders: ``name`` is a built-in encoder, ``minilm-l6``, a local directory or a hub name.

    ``criteria_name`` is the criteria encoder of the task ``joint``; None uses ``name`` again. ``dropout`` and
    ``attention_dropout`` are the encoder's own; None leaves its configuration's values. The first ``freeze_layers``
    layers and everything beneath them are not trained.
    """

    section: ClassVar[str] = "model"

    name: str = setting(
        "minilm-l6", "Encoder: a built-in name such as tiny-bert, minilm-l6, a local folder, or a name on the hub."
    )
    criteria_name: str | None = setting(None, "Second encoder of the task joint. null uses model.name twice.")
    revision: str | None = setting(
        None, "Branch, tag or commit of a model on the hub.", same_in_study="set it outside the space"
    )
    dropout: float | None = setting(
        None, "Dropout of the encoder. null keeps the model's own value.", at_least=0, below=1
    )
    attention_dropout: float | None = setting(
        None, "Dropout of the encoder's attention. null keeps the model's own value.", at_least=0, below=1
    )
    freeze_layers: int = setting(
        0, "Number of lower layers that are not trained. Above 0 the embeddings are not trained either.", at_least=0
    )


@dataclass(frozen=True)
class TokSettings(Extensible):
    """The inputs' lengths: ``max_length`` counts tokens of the assembled input, special tokens included.

    For spans, texts are cut into windows; each repeats ``doc_stride`` tokens of the previous one.
    """

    section: ClassVar[str] = "tok"

    max_length: int = setting(
        256, "Maximum length of an input in tokens, including special tokens.", at_least=8, at_most=8192
    )
    doc_stride: int = setting(
        64, "Tokens that two neighbouring windows of a text share, in tasks that find spans.", at_least=0, at_most=8192
    )


@dataclass(frozen=True)
class HeadSettings(Extensible):
    """The head: ``layers`` hidden layers of ``width``, each followed by ``activation``; 0 layers ignore both.

    ``pooling: native`` takes the head that transformers defines for the family, with dropout as in the model's
    configuration, and ignores all other settings.
    """

    section: ClassVar[str] = "head"

    pooling: str = setting(
        "cls",
        "How the tokens of a text become one vector. pooler is the encoder's own pooling; attention is a learned mean;"
        " native is the head that transformers defines for the model's family, which stock tools load.",
        choices=lambda: POOLINGS,
    )
    layers: int = setting(0, "Number of hidden layers before the output layer.", at_least=0, at_most=4)
    width: int = setting(768, "Width of the hidden layers.", above=0, at_most=65536)
    activation: str = setting(
        "gelu", "Activation function after each hidden layer.", choices=lambda: ("gelu", "relu", "silu")
    )
    dropout: float = setting(0.1, "Dropout before each layer of the head.", at_least=0, below=1)
