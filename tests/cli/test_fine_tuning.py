"""`barlowctl probe --finetune-protocol modern`: what is trained, that it goes on and repeats, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.layers import DropPath

from barlowctl.cli.app import run as barlowctl
from barlowctl.errors import RunStopped, UserError
from barlowctl.measure.drop_path import with_drop_path
from barlowctl.measure.protocol import classifier, optimizer
from barlowctl.measure.subjects import open_subject
from barlowctl.recipe.protocol import ADDED_LATER, PROTOCOLS, Protocol, override
from barlowctl.train.engine import Settings

Captured = pytest.CaptureFixture[str]
MODERN = PROTOCOLS["finetune-modern"]
SMALL = ["--set", "eval.resize=32", "--set", "eval.crop=32", "--threads", "1", "--json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve training and four test images of two easy classes."""
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for label, name in enumerate(("dark", "light")):
            (tmp_path / "tiny" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (12, 14, 3)) + 130 * label
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "tiny" / split / name / f"{name}_{number}.png")
    return tmp_path / "tiny"


def settings_of(protocol: Protocol, steps_per_epoch: int) -> Settings:
    """What the engine is told of a protocol, without networks or images."""
    from barlowctl.measure import classification

    fit: Any = classification._Fit
    return fit._settings(type("Call", (), {"protocol": protocol})(), steps_per_epoch, "fp32")  # type: ignore[no-any-return]


def test_the_rates_at_named_steps() -> None:
    """MAE's `lr_sched.py`: a linear warm-up to the rate, then half a cosine to the smallest rate, by step."""
    steps, peak, lowest = 10, 1.0, 5e-4
    settings = settings_of(MODERN, steps)
    for step, epoch in ((0, 0.0), (1, 0.1), (25, 2.5), (49, 4.9), (50, 5.0), (525, 52.5), (773, 77.3), (999, 99.9)):
        if epoch < 5:
            expected = peak * epoch / 5
        else:
            expected = lowest + (peak - lowest) * 0.5 * (1.0 + math.cos(math.pi * (epoch - 5) / (100 - 5)))
        assert settings.lr_factor(step) == pytest.approx(expected, rel=1e-12), step
    shorter = settings_of(override(MODERN, ["epochs=20"]), steps)
    assert [shorter.lr_factor(step) for step in (5, 10)] == [0.5, 1.0]  # the warm-up is as large a part of it


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if not name.endswith("modern")])
def test_the_papers_rates_are_what_they_were_bit_for_bit(name: str) -> None:
    protocol, steps = PROTOCOLS[name], 3
    settings = settings_of(protocol, steps)
    for epoch in range(protocol.epochs):
        expected = 0.5 * (1.0 + math.cos(math.pi * epoch / protocol.epochs))
        if protocol.schedule == "drops":
            expected = protocol.drop_factor ** sum(epoch >= drop for drop in protocol.drops)
        assert [settings.lr_factor(steps * epoch + step) for step in range(steps)] == [expected] * steps


def test_the_papers_protocols_keep_their_identity() -> None:
    """What was measured before there was another protocol is read back: nothing in its values is new."""
    old = {
        "name", "epochs", "batch_size", "lr_head", "lr_backbone", "momentum", "weight_decay", "schedule", "drops",
        "drop_factor", "crop_scale", "flip", "interpolation", "precision",
    }  # fmt: skip
    for name, protocol in PROTOCOLS.items():
        assert protocol.as_dict().keys() == (old | set(ADDED_LATER) if name.endswith("modern") else old)
    changed = override(PROTOCOLS["finetune"], ["label_smoothing=0.1"]).as_dict()
    assert changed == {**PROTOCOLS["finetune"].model_dump(mode="json"), "label_smoothing": 0.1}
    assert PROTOCOLS["semi-10"].describe() == (
        "whole network fine-tuned: SGD, 20 epochs, batch 256, lr 0.5 (backbone 0.002), times 0.2 at epochs [12, 16], "
        "momentum 0.9, weight decay 0; random resized crops from 0.08 and flips 0.5, bilinear; centre crop on test"
    )
    assert MODERN.describe() == (
        "whole network fine-tuned: AdamW, 100 epochs, batch 256, lr 0.0005 (backbone 0.0005), times 0.65 a layer, "
        "warm-up 5 epochs, cosine, betas 0.9 and 0.999, weight decay 0.05; label smoothing 0.1, mixup 0.8, cutmix 1, "
        "drop path 0.1; random resized crops from 0.08 and flips 0.5, bicubic; centre crop on test"
    )


def test_what_adamw_is_told_of_a_vit() -> None:
    """Rates by layer, and no decay of biases, norms, position embedding and class token."""
    backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32)
    method = classifier(MODERN, backbone, width=192, num_classes=3, seed=0)
    built = optimizer(method, MODERN)
    assert isinstance(built, torch.optim.AdamW)
    of = {id(parameter): group for group in built.param_groups for parameter in group["params"]}
    names = dict(method.named_parameters())
    assert len(of) == len(names)
    expected = {
        "head.weight": (1.0, 0.05), "head.bias": (1.0, 0.0),
        "backbone.blocks.11.mlp.fc1.weight": (0.65, 0.05), "backbone.norm.weight": (0.65, 0.0),
        "backbone.blocks.0.attn.qkv.weight": (0.65**12, 0.05), "backbone.blocks.0.attn.qkv.bias": (0.65**12, 0.0),
        "backbone.patch_embed.proj.weight": (0.65**13, 0.05), "backbone.pos_embed": (0.65**13, 0.0),
        "backbone.cls_token": (0.65**13, 0.0),
    }  # fmt: skip
    for name, (scale, decay) in expected.items():
        group = of[id(names[name])]
        assert (group["peak_lr"], group["weight_decay"]) == (pytest.approx(5e-4 * scale, rel=1e-12), decay), name
        assert group["betas"] == (0.9, 0.999)


def test_sgd_with_a_decay_by_layer_decays_every_parameter() -> None:
    protocol = override(PROTOCOLS["finetune"], ["layer_decay=0.5", "weight_decay=0.01"])
    backbone = timm.create_model("test_resnet", num_classes=0)
    built = optimizer(classifier(protocol, backbone, width=96, num_classes=3, seed=0), protocol)
    assert isinstance(built, torch.optim.SGD)
    assert {group["weight_decay"] for group in built.param_groups} == {0.01}
    rates = sorted({group["peak_lr"] for group in built.param_groups})
    assert rates == pytest.approx(sorted([0.5, *(0.002 * 0.5**distance for distance in range(1, 6))]))


def test_drop_path_is_timms_and_changes_nothing_in_evaluation() -> None:
    subject = open_subject("test_resnet", overrides=["eval.resize=32", "eval.crop=32"])
    dropping = with_drop_path(subject, 0.3)
    rates = [module.drop_prob for module in dropping.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3])  # the first block has none
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(dropping(images), subject.backbone(images))
    pretrained = replace(subject, backbone=dropping)  # with drop path: another protocol has its own rate, or none
    for rate, expected in ((0.0, [0.0] * 3), (0.6, [0.2, 0.4, 0.6])):
        other = with_drop_path(pretrained, rate)
        assert [module.drop_prob for module in other.modules() if isinstance(module, DropPath)] == pytest.approx(
            expected
        )
    assert rates == [module.drop_prob for module in dropping.modules() if isinstance(module, DropPath)]  # left alone
    pooled = open_subject("vit_tiny_patch16_224", overrides=["model.pooling=avg"])
    with torch.no_grad():
        pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        assert torch.equal(with_drop_path(pooled, 0.1)(pixels), pooled.backbone(pixels))
    with pytest.raises(UserError, match="has no drop path") as refused:
        with_drop_path(open_subject("ghostnet_050"), 0.1)
    assert refused.value.next == "--set drop_path=0"


def test_it_goes_on_where_it_was_stopped_whoever_loads_the_images(folder: Path, recipe: Path, tmp_path: Path) -> None:
    """Mixing, drop path and all: stopped in the middle of an epoch, with one or with two loading processes."""
    from barlowctl.assemble.labelled import open_labelled
    from barlowctl.assemble.machine import Runtime
    from barlowctl.measure.classification import fit

    subject = open_subject("test_resnet", overrides=["eval.resize=32", "eval.crop=32"])
    values = ["epochs=2", "batch_size=8", "lr_head=0.01", "lr_backbone=0.01", "drop_path=0.5", "precision=fp32"]
    data, protocol = open_labelled(str(folder)), override(MODERN, values)
    events: list[Any] = []

    def stop() -> bool:
        return sum(type(event).__name__ == "StepDone" for event in events) >= 4

    def scores(name: str, workers: int, **options: Any) -> torch.Tensor:
        runtime, device = Runtime(workers=workers, loader="plain", threads=1), torch.device("cpu")
        return fit(subject, data, protocol, runtime, device, folder=tmp_path / name, seed=0, **options).scores

    with pytest.raises(RunStopped, match="stopped at step 4 of 6"):
        scores("parts", 1, emit=events.append, stop=stop)
    parts, whole, others = scores("parts", 2), scores("whole", 1), scores("others", 2)
    assert torch.equal(parts, whole)
    assert torch.equal(others, whole)


def test_both_protocols_stand_beside_one_another(folder: Path, recipe: Path, capsys: Captured) -> None:
    options = ["test_resnet", "--data", str(folder), "--set", "epochs=1", "--set", "batch_size=8", *SMALL]
    for protocol, words in (("paper", []), ("modern", ["--finetune-protocol", "modern"])):
        assert barlowctl(["probe", *options, "--finetune", "--semi", "10", *words]) == 0, protocol
        printed = json.loads(capsys.readouterr().out)
    document = json.loads(Path(printed["file"]).read_text())
    assert {"finetune", "semi_10", "finetune_modern", "semi_10_modern"} <= document.keys()
    assert document["finetune_modern"]["settings"]["mixup"] == 0.8
    assert "mixup" not in document["finetune"]["settings"]
    assert document["finetune_modern"]["protocol"].startswith("whole network fine-tuned: AdamW, 1 epoch,")
    lists = [Path(document[key]["lists"][0]) for key in ("semi_10", "semi_10_modern")]
    assert lists[0].read_text() == lists[1].read_text()  # the same labelled images
    assert document["semi_10_modern"]["images"] == 2

    assert barlowctl(["probe", *options, "--finetune", "--finetune-protocol", "modern", "--set", "mixup=0"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert other["file"] != printed["file"]
    assert other["identity"]["protocol"]["protocol"] == {"epochs": 1, "batch_size": 8, "mixup": 0.0}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--finetune-protocol", "modern"], "--finetune-protocol modern is of what is fine-tuned"),
        (["--finetune", "--finetune-protocol", "moder"], "did you mean 'modern'"),
        (["--finetune", "--set", "betas=[0.9, 0.99]"], "changes nothing: they are of AdamW, and SGD has a momentum"),
        (["--finetune", "--set", "mixup_prob=0.5"], "changes nothing: mixup and cutmix are 0"),
        (["--finetune", "--set", "mixup=0.2", "--set", "mixup_switch_prob=0.5"], "not both above 0"),
        (["--finetune", "--set", "final_lr_scale=0.1"], "changes nothing: the schedule is 'drops'"),
        (["--protocol", "paper", "--set", "layer_decay=0.7"], "changes nothing: the backbone is frozen"),
        (["--protocol", "paper", "--set", "drops=[3]"], "changes nothing: the schedule is 'cosine'"),
        (["--finetune", "--finetune-protocol", "modern", "--set", "momentum=0.8"], "it is of SGD, and AdamW has betas"),
        (
            ["--finetune", "--finetune-protocol", "modern", "--set", "epochs=3", "--set", "warmup_epochs=4"],
            "longer than",
        ),
        (["--finetune", "--finetune-protocol", "modern", "--set", "layer_decay=0"], "a number from 1e-06 to 1"),
        (["--finetune", "--finetune-protocol", "modern", "--set", "label_smoothing=1"], "a number from 0 below 1"),
    ],
)
def test_refusals(folder: Path, recipe: Path, capsys: Captured, words: list[str], says: str) -> None:
    assert barlowctl(["probe", "test_resnet", "--data", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_a_network_without_drop_path_is_refused_before_anything_is_measured(
    folder: Path, recipe: Path, capsys: Captured
) -> None:
    words = ["--finetune", "--finetune-protocol", "modern", "--knn"]
    assert barlowctl(["probe", "ghostnet_050", "--data", str(folder), *words, *SMALL]) == 2
    error = capsys.readouterr().err
    assert "'ghostnet_050' has no drop path" in error
    assert "--set drop_path=0" in error
    assert not list(folder.parent.glob("runs/probes/ghostnet_050/*.json"))


def test_one_override_may_be_of_one_of_several_protocols() -> None:
    from barlowctl.measure.tasks import Tasks

    tasks = Tasks(trained=("linear", "semi-10"), overrides=("drops=[3]",))
    assert tasks.protocols()["semi-10"].drops == (3,)
