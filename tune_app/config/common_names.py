"""Names of settings in other programs, from which the right name is suggested for an unknown one."""

import difflib
import re
from collections.abc import Iterable, Mapping

COMMON_NAMES: Mapping[str, tuple[str, ...]] = {
    "data": ("dataset", "datasets"),
    "model": ("encoder", "backbone", "network"),
    "tok": ("tokenizer", "tokenizers", "tokenization", "preprocessing"),
    "head": ("classifier",),
    "loss": ("criterion",),
    "optim": ("optimizer", "optimiser", "optimization"),
    "schedule": ("lr_scheduler", "lr_schedule"),
    "train": ("training", "trainer", "training_args", "training_arguments"),
    "augment": ("augmentation", "augmentations"),
    "search": ("tune", "tuner", "tuning", "hpo", "optuna"),
    "scheduler": ("pruner", "asha"),
    "tracking": ("mlflow", "logging"),
    "checkpoint": ("checkpoints", "checkpointing"),
    "space": ("search_space", "param_space", "parameters", "hyperparameters"),
    "study.name": ("study_name", "run_name", "experiment", "experiment_name", "project"),
    "study.dir": ("output_dir", "run_dir", "save_dir", "log_dir", "local_dir", "storage_path"),
    "study.storage": ("database", "db"),
    "data.path": ("dataset", "csv", "file", "data_path", "data_file", "train_file", "train_data"),
    "data.columns.text": ("text", "text_column", "sentence", "premise"),
    "data.columns.criterion": ("criterion", "criterion_column", "text_pair", "hypothesis"),
    "data.columns.label": ("label", "labels", "label_column", "target"),
    "data.columns.group_id": ("group_id", "group", "groups", "group_column", "group_by"),
    "data.max_rows": ("max_samples", "max_train_samples", "limit", "n_rows", "nrows"),
    "data.validation_share": ("val_size", "val_split", "val_share", "dev_size", "validation_size", "validation_split"),
    "data.test_share": ("test_size", "test_split"),
    "data.folds": ("cv", "kfold", "k_folds", "n_folds", "num_folds", "n_splits"),
    "data.num_workers": ("workers", "dataloader_num_workers"),
    "data.pin_memory": ("dataloader_pin_memory",),
    "task.name": ("task_type", "problem_type"),
    "task.classes": ("num_labels", "num_classes", "n_classes", "n_labels"),
    "model.name": ("model_name", "model_name_or_path", "model_id", "backbone", "encoder", "pretrained", "base_model"),
    "model.dropout": ("hidden_dropout", "hidden_dropout_prob", "encoder_dropout"),
    "model.attention_dropout": ("attention_probs_dropout_prob", "attn_dropout"),
    "model.freeze_layers": ("freeze", "frozen_layers", "num_frozen_layers", "unfreeze_layers"),
    "tok.max_length": (
        *("max_len", "maxlen", "seq_len", "seq_length", "sequence_length", "model_max_length", "max_tokens"),
        *("max_seq_len", "max_seq_length", "max_sequence_length", "length"),
    ),
    "tok.doc_stride": ("stride", "overlap"),
    "head.pooling": ("pool", "pooler", "pooling_mode", "pooling_strategy"),
    "head.layers": ("head_layers", "num_head_layers", "classifier_layers"),
    "head.width": ("hidden_size", "hidden_dim", "head_dim", "head_hidden_size"),
    "head.dropout": ("classifier_dropout", "cls_dropout", "dropout_rate"),
    "loss.name": ("loss_fn", "loss_function", "criterion_name"),
    "loss.smoothing": ("label_smoothing", "label_smoothing_factor"),
    "loss.gamma": ("focal_gamma",),
    "loss.alpha": ("focal_alpha",),
    "loss.class_weighting": ("class_weight", "class_weights", "pos_weight"),
    "optim.name": ("optimizer", "optimiser", "optimizer_name", "optimizer_type"),
    "optim.lr": (
        "learning_rate",
        "learningrate",
        "peak_lr",
        "max_lr",
        "base_lr",
        "init_lr",
        "encoder_lr",
        "rate",
        "eta",
    ),
    "optim.layer_decay": ("llrd", "lr_decay", "layer_lr_decay", "layerwise_lr_decay", "layer_wise_lr_decay"),
    "optim.weight_decay": ("wd", "decay", "l2", "weight_decay_rate"),
    "optim.beta1": ("adam_beta1", "betas", "momentum"),
    "optim.beta2": ("adam_beta2",),
    "optim.eps": ("epsilon", "adam_epsilon", "adam_eps"),
    "schedule.name": ("lr_scheduler", "lr_scheduler_type", "lr_schedule", "schedule_type"),
    "schedule.warmup_ratio": ("warmup", "warmup_steps", "warmup_proportion", "num_warmup_steps", "warmup_share"),
    "schedule.cycles": ("num_cycles", "n_cycles"),
    "train.batch_size": (
        *("batch", "bs", "batchsize", "batches", "effective_batch", "effective_batch_size", "train_batch_size"),
        *("per_device_train_batch_size", "per_gpu_train_batch_size"),
    ),
    "train.grad_accum": (
        *("accumulation", "accumulation_steps", "grad_accumulation", "gradient_accumulation", "grad_accum_steps"),
        *("gradient_accumulation_steps", "accumulate_grad_batches"),
    ),
    "train.epochs": ("epoch", "num_epochs", "n_epochs", "nb_epochs", "max_epochs", "num_train_epochs"),
    "train.precision": ("fp16", "bf16", "amp", "mixed_precision", "dtype", "torch_dtype"),
    "train.patience": ("early_stopping", "early_stopping_patience"),
    "train.clip_norm": ("clip", "clipping", "grad_clip", "gradient_clip_val", "max_grad_norm", "clip_grad_norm"),
    "train.checkpointing": ("grad_checkpointing", "gradient_checkpointing", "activation_checkpointing"),
    "augment.name": ("augmentation",),
    "memory.micro_batch": ("micro_batch_size", "microbatch"),
    "memory.eval_batch": ("eval_batch_size", "per_device_eval_batch_size", "test_batch_size"),
    "memory.budget_gib": ("budget", "gpu_memory", "memory_gb", "vram", "max_memory"),
    "search.trials": ("n_trials", "num_trials", "max_trials", "num_samples", "trials", "n_iter", "budget_trials"),
    "search.max_concurrent": ("n_jobs", "concurrency", "max_concurrent_trials", "parallel", "parallelism"),
    "search.seed": ("random_state", "random_seed", "manual_seed", "data_seed"),
    "search.metric": ("objective_metric", "metric_for_best_model", "monitor", "metrics", "direction"),
    "search.sampler": ("search_alg", "algorithm", "searcher"),
    "scheduler.name": ("pruner",),
    "scheduler.warmup": ("grace_period", "min_epochs", "warmup_epochs"),
    "resources.gpu": ("gpus", "n_gpu", "num_gpus", "devices"),
    "resources.cpu": ("cpus", "num_cpus", "n_cpu", "threads", "num_threads"),
    "trial.timeout_s": ("timeout", "time_limit", "max_runtime"),
    "tracking.uri": ("mlflow", "mlflow_uri", "tracking_uri", "mlflow_tracking_uri"),
    "checkpoint.keep": ("save_total_limit", "num_to_keep", "keep_checkpoints"),
    "checkpoint.dir": ("checkpoint_dir", "checkpoint_path"),
}
"""Setting or section → its names in transformers, Lightning, Optuna, Ray, scikit-learn and everyday speech."""


def meant(name: str, known: Iterable[str]) -> str | None:
    """Return the setting that an unknown dotted name most likely means; None without a good match.

    Common names in other programs come first, then the same name in another section, then similar spellings, in the
    name's own section before others.

    Args:
        known: the dotted names of all settings, or the names of all sections.
    """
    names = list(known)
    section, _, leaf = name.rpartition(".")
    leaves = {_leaf(other): other for other in reversed(names)}
    beside = [other for other in names if section and other.rpartition(".")[0] == section]
    return (
        _same(name, {other: other for other in names})
        or _same(leaf, _common(names))
        or _same(leaf, leaves)
        or _alike(leaf, {_leaf(other): other for other in beside}, cutoff=0.6)
        or _alike(leaf, {**_common(names), **leaves}, cutoff=0.75)
    )


def _common(names: Iterable[str]) -> dict[str, str]:
    return {common: name for name in names for common in COMMON_NAMES.get(name, ())}


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _plain(name: str) -> str:
    """Return a normalised name, which is equal for ``batchSize``, ``batch-size`` and ``Batch.size``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _same(name: str, found: Mapping[str, str]) -> str | None:
    return {_plain(other): setting for other, setting in found.items()}.get(_plain(name))


def _alike(name: str, found: Mapping[str, str], cutoff: float) -> str | None:
    close = difflib.get_close_matches(name.lower(), found, n=3, cutoff=cutoff)
    # Prefer names with the same letters in another order, which are the likelier mistake.
    close.sort(key=lambda other: sorted(other) != sorted(name.lower()))
    return found[close[0]] if close else None
