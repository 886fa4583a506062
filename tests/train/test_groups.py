"""Which parameters of a transformer and of a ConvNeXt have weight decay and adaptation, by name."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from barlowctl.distributed import ALONE
from barlowctl.errors import RunStopped
from barlowctl.model import build_backbone
from barlowctl.train import groups
from barlowctl.train.groups import group_as_saved, parameter_groups
from barlowctl.train.optim import build_optimizer
from tests.dist.work import Run, train_transformer

VIT: dict[str, Any] = {
    "name": "vit_tiny_patch16_224", "img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2,
    "init_values": 1e-5, "reg_tokens": 2, "qk_norm": True,
}  # fmt: skip
CONVNEXT = {"name": "convnext_atto", "depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}
SWIN = {
    "name": "swin_tiny_patch4_window7_224", "img_size": 16, "patch_size": 4, "window_size": 2, "embed_dim": 8,
    "depths": [1, 1], "num_heads": [1, 1],
}  # fmt: skip


class Trained(nn.Module):
    """A backbone and a projector, as a method has them."""

    def __init__(self, name: str, **timm_args: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = build_backbone(name, in_chans=1, **timm_args)
        self.projector = nn.Sequential(nn.Linear(8, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 4))


def names_of(module: nn.Module, params: Sequence[nn.Parameter]) -> list[str]:
    """Names without the numbers of blocks, each once, in the module's order."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    return list(dict.fromkeys(re.sub(r"(blocks|stages|layers)\.\d+", r"\1", names[p]) for p in params))


def test_the_groups_of_a_vision_transformer() -> None:
    module = Trained(**VIT)
    weights, biases = parameter_groups(module, lr=0.2, lr_biases=0.1, weight_decay=0.5)
    assert names_of(module, weights["params"]) == [
        "backbone.patch_embed.proj.weight", "backbone.blocks.attn.qkv.weight", "backbone.blocks.attn.proj.weight",
        "backbone.blocks.mlp.fc1.weight", "backbone.blocks.mlp.fc2.weight", "projector.0.weight", "projector.2.weight",
    ]  # fmt: skip
    assert names_of(module, biases["params"]) == [
        "backbone.cls_token", "backbone.reg_token", "backbone.pos_embed", "backbone.patch_embed.proj.bias",
        "backbone.blocks.norm1.weight", "backbone.blocks.norm1.bias", "backbone.blocks.attn.qkv.bias",
        "backbone.blocks.attn.q_norm.weight", "backbone.blocks.attn.q_norm.bias", "backbone.blocks.attn.k_norm.weight",
        "backbone.blocks.attn.k_norm.bias", "backbone.blocks.attn.proj.bias", "backbone.blocks.ls1.gamma",
        "backbone.blocks.norm2.weight", "backbone.blocks.norm2.bias", "backbone.blocks.mlp.fc1.bias",
        "backbone.blocks.mlp.fc2.bias", "backbone.blocks.ls2.gamma", "backbone.norm.weight", "backbone.norm.bias",
        "projector.1.weight", "projector.1.bias", "projector.2.bias",
    ]  # fmt: skip
    assert (weights["weight_decay"], weights["adapt"], weights["lr"]) == (0.5, True, 0.2)
    assert (biases["weight_decay"], biases["adapt"], biases["lr"]) == (0.0, False, 0.1)


def test_the_groups_of_a_convnext_and_a_swin() -> None:
    module = Trained(**CONVNEXT)
    weights, biases = parameter_groups(module, lr=0.2, lr_biases=0.1, weight_decay=0.5)
    assert names_of(module, weights["params"])[:5] == [
        "backbone.stem.0.weight", "backbone.stages.blocks.conv_dw.weight", "backbone.stages.blocks.mlp.fc1.weight",
        "backbone.stages.blocks.mlp.fc2.weight", "backbone.stages.downsample.1.weight",
    ]  # fmt: skip
    assert "backbone.stages.blocks.gamma" in names_of(module, biases["params"])
    assert "backbone.head.norm.weight" in names_of(module, biases["params"])
    module = Trained(**SWIN)
    weights, biases = parameter_groups(module, lr=0.2, lr_biases=0.1, weight_decay=0.5)
    table = "backbone.layers.blocks.attn.relative_position_bias_table"
    assert table in names_of(module, biases["params"])
    assert table not in names_of(module, weights["params"])


def test_with_exclude_biases_off_everything_decays() -> None:
    for group in parameter_groups(Trained(**VIT), lr=0.2, lr_biases=0.1, weight_decay=0.5, exclude_biases=False):
        assert (group["weight_decay"], group["adapt"]) == (0.5, True)


def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "lars", "muon"])
def test_a_run_of_before_the_exception_goes_on_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"lr": 0.1, "lr_biases": 0.02, "weight_decay": 0.3}
    before, resumed = Trained(**VIT), Trained(**VIT)
    with monkeypatch.context() as patch:
        patch.setattr(groups, "undecayed", lambda module: set())
        optimizer = build_optimizer(before, name, **settings)
    step(before, optimizer, 1)
    state = copy.deepcopy(optimizer.state_dict())
    resumed.load_state_dict(copy.deepcopy(before.state_dict()))
    own = build_optimizer(resumed, name, **settings)
    assert group_as_saved(own, resumed, state["param_groups"])
    own.load_state_dict(state)
    for number in (2, 3):
        step(before, optimizer, number)
        step(resumed, own, number)
    for (key, expected), actual in zip(before.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, actual), key
    assert not group_as_saved(own, resumed, own.state_dict()["param_groups"])


def test_a_checkpoint_of_before_the_exception_is_resumed_bit_identically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(dtype="float32", optimizer="adamw", lr=1e-2, lr_biases=1e-3, weight_decay=0.5, batches=3)
    with monkeypatch.context() as patch:
        patch.setattr(groups, "undecayed", lambda module: set())
        whole = train_transformer(ALONE, run, str(tmp_path / "whole"))
        with pytest.raises(RunStopped):
            train_transformer(ALONE, run, str(tmp_path / "parts"), stop_at=2)
    resumed = train_transformer(ALONE, run, str(tmp_path / "parts"), resume=True)
    for key in whole.keys() - {"loss", "path"}:
        np.testing.assert_array_equal(resumed[key], whole[key], err_msg=key)
    fresh = train_transformer(ALONE, run, str(tmp_path / "fresh"))
    assert not np.array_equal(fresh["backbone.pos_embed"], whole["backbone.pos_embed"])


def moved_by_lars(module: nn.Module, *, exclude_biases: bool) -> dict[str, float]:
    """How far each parameter went in one step without momentum and decay, from gradients of norm 1, by its name."""
    optimizer = build_optimizer(
        module, "lars", lr=0.2, lr_biases=0.01, weight_decay=0.0, momentum=0.0, eta=0.001, exclude_biases=exclude_biases
    )
    before = {name: p.detach().double().clone() for name, p in module.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for p in module.parameters():
        gradient = torch.randn(p.shape, generator=generator)
        p.grad = gradient / gradient.norm()
    optimizer.step()
    return {name: float((p.detach().double() - before[name]).norm()) for name, p in module.named_parameters()}


def test_lars_moves_a_tensor_by_a_share_of_its_own_norm_and_so_hardly_moves_what_starts_small() -> None:
    """The trap: adapted, layer scale (1e-6 here, as timm's ConvNeXt) and class token (1e-6) stay where they are."""
    for module, small in (
        (Trained(**CONVNEXT), "backbone.stages.0.blocks.0.gamma"),
        (Trained(**VIT), "backbone.cls_token"),
    ):
        norms = {name: float(p.detach().double().norm()) for name, p in module.named_parameters()}
        assert norms[small] < 1e-4
        weights, _ = parameter_groups(module, lr=0.2, lr_biases=0.01, weight_decay=0.0)
        rates = {name: 0.2 if any(p is w for w in weights["params"]) else 0.01 for name, p in module.named_parameters()}
        adapted = moved_by_lars(copy.deepcopy(module), exclude_biases=False)
        for name, norm in norms.items():
            share = 0.001 * norm if norm else 1.0  # what is 0 goes as far as its gradient says, in its first step
            assert adapted[name] == pytest.approx(rates[name] * share, rel=2e-3, abs=1e-7), name
        excluded = moved_by_lars(module, exclude_biases=True)
        assert excluded[small] == pytest.approx(0.01, rel=1e-4)  # lr_biases times the gradient
        assert excluded[small] > 1e5 * adapted[small]


def test_lars_moves_a_trained_layer_norm_by_its_own_rate() -> None:
    """Adapted, a norm of 8 ones has a step of lr_biases eta sqrt(8), whatever its gradient is."""
    name = "backbone.norm.weight"
    assert moved_by_lars(Trained(**VIT), exclude_biases=False)[name] == pytest.approx(0.01 * 0.001 * 8**0.5, rel=1e-2)
    assert moved_by_lars(Trained(**VIT), exclude_biases=True)[name] == pytest.approx(0.01, rel=1e-4)
