"""What other tools call a key of a recipe. A leaf."""

from __future__ import annotations

from collections.abc import Iterable

_KEYS = {
    "optimizer.lr": ("learning_rate", "base_lr", "base_learning_rate", "lr_base"),
    "optimizer.name": ("optimizer", "optim", "opt"),
    "optimizer.weight_decay": ("wd", "decay"),
    "optimizer.clip_grad_norm": ("grad_clip", "clip_grad", "gradient_clip_val", "max_grad_norm"),
    "train.epochs": ("max_epochs", "num_epochs", "n_epochs", "num_train_epochs"),
    "train.batch_size": ("bs", "batch", "per_device_train_batch_size"),
    "train.warmup_epochs": ("warmup", "num_warmup_epochs"),
    "train.schedule": ("scheduler", "lr_scheduler"),
    "train.precision": ("amp", "dtype", "mixed_precision"),
    "model.backbone": ("arch", "architecture", "encoder"),
    "model.projector": ("proj_dim", "projection_dim", "proj_hidden_dim", "proj_output_dim"),
    "views.size": ("img_size", "crop_size", "input_size", "resolution"),
    "objective.name": ("method", "loss", "algorithm"),
    "objective.lambd": ("lambda", "lambda_", "lamb", "lambda_param"),
    "objective.temperature": ("temp", "tau"),
}
_SECTIONS = {
    "optimizer": "optimizer.name", "objective": "objective.name", "model": "model.backbone", "data": "data.dataset",
}  # fmt: skip


def key_meant(word: str, keys: Iterable[str]) -> str | None:
    """The key, of those that there are, which a word means elsewhere; None: none is known."""
    return next((key for key in keys if word.lower() in _KEYS.get(key, ())), None)


def key_of_section(section: str) -> str | None:
    """The key that a name means where it is set as the whole section (`optimizer=adamw`)."""
    return _SECTIONS.get(section)
