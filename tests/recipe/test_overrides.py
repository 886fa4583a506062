"""Overrides of a protocol, a detector or a file of weights: one error names all that are wrong."""

from __future__ import annotations

import shlex

import pytest

from barlowctl.assemble.detection_settings import detection_settings
from barlowctl.assemble.showing import prepared_otherwise
from barlowctl.cli.app import run as command
from barlowctl.cli.export_checks import check_run
from barlowctl.errors import UserError
from barlowctl.measure.tasks import Tasks
from barlowctl.measure.transfer import check_overrides
from barlowctl.model import Preprocessing
from barlowctl.recipe.protocol import PROTOCOLS, override, refuse_idle

PREPARATION = Preprocessing(crop=32, resize=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_unknown_keys_and_values_that_are_not_allowed_are_one_error() -> None:
    typed = ["momentun=0.8", "xyz=3", "epochs=0", "lr_head=1", "crop_scale=[0,2]", "drop_path=1.5"]
    with pytest.raises(UserError) as raised:
        override(PROTOCOLS["linear"], typed)
    lines = raised.value.message.splitlines()
    assert [line.partition(":")[0].partition(". ")[0] for line in lines] == [
        "--set momentun=0.8", "--set xyz=3", "--set epochs=0", "--set drop_path=1.5", "--set crop_scale=[0,2]",
    ]  # fmt: skip
    assert lines[2] == "--set epochs=0. Allowed: a whole number from 1 to 2,147,483,647"
    assert "did you mean 'momentum'?. Allowed: epochs, batch_size" in lines[0]
    assert raised.value.allowed is None
    following = shlex.split(raised.value.next or "")
    assert following[:3] == ["--set", "momentum=0.8", "without"]
    assert sorted(following[3:]) == sorted(f"--set={text}" for text in typed if text != "lr_head=1")


def test_what_all_lack_is_named_once() -> None:
    with pytest.raises(UserError) as raised:
        override(PROTOCOLS["linear"], ["xyz=3", "uvw=4"])
    assert raised.value.message.splitlines() == [
        "--set xyz=3: unknown protocol value 'xyz'", "--set uvw=4: unknown protocol value 'uvw'",
    ]  # fmt: skip
    assert (raised.value.allowed or "").startswith("epochs, batch_size")
    assert raised.value.next == "without --set=xyz=3 --set=uvw=4"


def test_of_a_detector_with_flags() -> None:
    with pytest.raises(UserError) as raised:
        detection_settings("coco", iterations=0, overrides=["lr=-1", "rois_per_image=0", "zzzz=1"])
    assert sorted(shlex.split(raised.value.next or "")[1:]) == [
        "--iterations", "--set=lr=-1", "--set=rois_per_image=0", "--set=zzzz=1",
    ]  # fmt: skip
    assert len(raised.value.message.splitlines()) == 4


def test_overrides_that_change_nothing_are_named_together() -> None:
    with pytest.raises(UserError) as raised:
        refuse_idle([PROTOCOLS["linear"]], ["layer_decay=0.7", "drops=[3]", "epochs=2"])
    assert raised.value.message == (
        "--set layer_decay=0.7 changes nothing: the backbone is frozen (lr_backbone is 0)\n"
        "--set drops=[3] changes nothing: the schedule is 'cosine'"
    )
    assert shlex.split(raised.value.next or "") == ["without", "--set=layer_decay=0.7", "--set=drops=[3]"]
    with pytest.raises(UserError, match="--set epochs=2 --set lr_head=1 change a protocol that is not asked for"):
        Tasks(overrides=("epochs=2", "lr_head=1")).protocols()
    with pytest.raises(UserError, match="--set epochs=2 --set lr_head=1 change nothing: --protocol fast"):
        check_overrides("folder", "fast", ["epochs=2", "lr_head=1"])


def test_keys_that_a_measurement_does_not_take() -> None:
    with pytest.raises(UserError) as raised:
        prepared_otherwise(PREPARATION, ["model.backbone=x", "train.epochs=1", "eval.crop=16"])
    assert raised.value.message == (
        "--set model.backbone=x: 'model.backbone' is what the network says itself\n"
        "--set train.epochs=1: 'train.epochs' is of a training, and changes nothing here"
    )
    assert raised.value.next == "without --backbone --set=model.backbone=x --set=train.epochs=1"


def test_an_export_names_all_overrides_that_it_does_not_take() -> None:
    with pytest.raises(UserError) as raised:
        check_run("a", None, ["model.backbone=resnet18", "model.stem=cifar"], False, None)
    assert raised.value.message.startswith("--set model.backbone=resnet18 --set model.stem=cifar are of a file")
    assert raised.value.next == "without --backbone --set=model.backbone=resnet18 --set=model.stem=cifar"


def test_flags_of_another_task_and_of_a_push_are_named_together(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--low-shot", "--cost", "0.5", "--head", "fpn"]
    assert command(["transfer", "test_resnet", "--task", "places205", *flags]) == 2
    errors = capsys.readouterr().err
    assert "error: --head, --low-shot, --cost have no meaning for the task places205" in errors
    assert "next: barlowctl transfer test_resnet --task places205\n" in errors
    assert command(["export", "runs/none", "--license", "mit", "--public", "--overwrite"]) == 2
    errors = capsys.readouterr().err
    assert "error: --license, --public, --overwrite are of --push, which is not there" in errors
    assert "next: barlowctl export runs/none\n" in errors
