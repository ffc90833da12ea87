"""Small workloads of every family, and the memory of their real steps on the CPU, for tests and benches."""

import weakref
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, PreTrainedConfig

from trainables.models.architectures import known_config
from trainables.models.builtin import build_encoder
from trainables.models.encoder import enable_checkpointing, freeze_layers
from trainables.models.families import set_dropout
from trainables.models.heads import ACTIVATIONS
from trainables.models.load import LoadedEncoder, LoadReport
from trainables.planning.trace import Workload
from trainables.seeds import trial_seeds
from trainables.settings import DataSettings, HeadSettings, ModelSettings, OptimSettings, TrialSettings
from trainables.tasks import build_task
from trainables.tasks.protocol import Batch, Task
from trainables.training.optimizer import build_optimizer, prepare_states
from trainables.training.precision import autocast
from trainables.training.step import train_step

GIB = 2**30

# One published model per family; small models keep all of its settings but the size.
FAMILIES = {
    "bert": "bert-base-uncased",
    "roberta": "roberta-base",
    "xlm-roberta": "xlm-roberta-base",
    "deberta-v2": "microsoft/deberta-v3-base",
    "electra": "google/electra-base-discriminator",
    "distilbert": "distilbert-base-uncased",
    "albert": "albert-base-v2",
    "modernbert": "answerdotai/ModernBERT-base",
}

SETTINGS = TrialSettings(DataSettings("none"), trial_seeds(0))


@dataclass(frozen=True)
class Case:
    """Workload, and the sizes at which it runs."""

    family: str
    workload: Workload
    micro_batch: int
    length: int
    accumulation: int

    def __str__(self) -> str:
        config, load = self.workload.config, self.workload
        head = load.settings.head
        return (
            f"{self.family} {config.num_hidden_layers}×{config.hidden_size} {load.precision} {head.pooling}"
            f" head {head.layers}"
            f"{' checkpointing' if load.checkpointing else ''} frozen {load.settings.model.freeze_layers} "
            f"{self.accumulation}×{self.micro_batch}×{self.length}"
        )


def small_config(family: str, *, layers: int, heads: int, hidden: int, vocab_size: int) -> PreTrainedConfig:
    published = known_config(FAMILIES[family])
    assert published is not None
    values = published.to_dict()
    if family == "distilbert":
        values |= {"n_layers": layers, "n_heads": heads, "dim": hidden, "hidden_dim": 4 * hidden}
    else:
        values |= {
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "hidden_size": hidden,
            "intermediate_size": 4 * hidden,
        }
    if family == "electra":
        values["embedding_size"] = hidden // 2
    values.pop("layer_types", None)  # transformers derives it from the number of layers.
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    return AutoConfig.for_model(values.pop("model_type"), **(values | tokens | {"vocab_size": vocab_size}))


def draw_case(draw: Random, family: str) -> Case:
    """Draw a random workload of the family, from tiny to MiniLM's size."""
    layers = draw.choice((2, 3, 4, 6))
    heads = draw.choice((2, 4, 6, 12))
    config = small_config(
        family,
        layers=layers,
        heads=heads,
        hidden=heads * draw.choice((16, 32)),
        vocab_size=draw.choice((501, 4_000, 30_522)),
    )
    shares_layers = family == "albert"
    head = HeadSettings(
        pooling=draw.choice(("cls", "mean", "max", "attention")),
        layers=draw.choice((0, 0, 1, 2, 4)),
        width=draw.choice((48, 96, 256)),
        activation=draw.choice(tuple(ACTIVATIONS)),
        dropout=draw.choice((0.0, 0.1)),
    )
    model = ModelSettings(
        dropout=draw.choice((None, 0.0, 0.2)),
        attention_dropout=draw.choice((None, 0.0, 0.2)),
        freeze_layers=0 if shares_layers else draw.choice((0, 0, 1, 2)),
    )
    set_dropout(config, model.dropout, model.attention_dropout)
    optim = OptimSettings(layer_decay=1.0 if shares_layers else draw.choice((1.0, 0.9)))
    workload = Workload(
        replace(SETTINGS, head=head, model=model, optim=optim),
        config,
        precision=draw.choice(("fp32", "bf16")),
        checkpointing=not shares_layers and draw.random() < 0.4,
    )
    return Case(
        family,
        workload,
        micro_batch=draw.choice((1, 2, 3, 4, 6, 8, 12, 16)),
        length=draw.choice((17, 32, 64, 96, 100, 128, 192, 256)),
        accumulation=draw.choice((1, 2, 3)),
    )


def measure(case: Case) -> tuple[float, float]:
    """Return the peaks in GiB of real training, two steps long, and of an evaluation pass after it."""
    workload = case.workload
    task = build_task(workload.settings)
    encoder = build_encoder(workload.config, seed=0)
    freeze_layers(encoder, workload.settings.model.freeze_layers)
    if workload.checkpointing:
        enable_checkpointing(encoder)
    model = task.build_model([LoadedEncoder(encoder, LoadReport((), (), None))], seed=0)
    batches = [batch(task, case.micro_batch, case.length, seed) for seed in range(case.accumulation)]
    with LiveBytes(model, batches) as counter:
        optimizer = build_optimizer(model, workload.settings.optim)
        prepare_states(optimizer)
        model.train()
        for _ in range(2):
            train_step(
                model,
                task,
                batches,
                optimizer,
                clip_norm=workload.settings.train.clip_norm,
                precision=workload.precision,
            )
        optimizer.zero_grad(set_to_none=True)
        training = counter.take_peak()
        optimizer.zero_grad(set_to_none=True)
        counter.take_peak()
        model.eval()
        with torch.inference_mode(), autocast(workload.precision, torch.device("cpu")):
            task.outputs_to_score(model(batches[0]), batches[0])
        return training / GIB, counter.take_peak() / GIB


def batch(task: Task, samples: int, length: int, seed: int) -> Batch:
    """Return the task's largest batch of these sizes, with random tokens."""
    rng = np.random.default_rng(seed)
    full = task.full_batch(samples, length)
    tokens = {
        name: torch.from_numpy(rng.integers(2, 500, ids.shape)) for name, ids in full.items() if "input_ids" in name
    }
    return full | tokens


class LiveBytes(TorchDispatchMode):
    """Counter of the bytes of live storages: the model's and those that operations make, but not the batches'."""

    def __init__(self, model: nn.Module, batches: list[Batch]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._live: dict[int, int] = {}
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._now = self._peak = 0
        for batch in batches:
            self._live |= {tensor.untyped_storage()._cdata: 0 for tensor in batch.values()}
        for tensor in (*model.parameters(), *model.buffers()):
            self._count(tensor)

    def take_peak(self) -> int:
        """Return the peak since the last call."""
        peak, self._peak = self._peak, self._now
        return peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "aten" and func._can_decompose():
            with self:
                return func.decompose(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._live:
            return
        self._live[address] = storage.nbytes()
        self._references[address] = weakref.ref(storage, lambda _: self._gone(address))
        self._now += storage.nbytes()
        self._peak = max(self._peak, self._now)

    def _gone(self, address: int) -> None:
        del self._references[address]
        self._now -= self._live.pop(address)
