"""Exports are loaded by the library they are for, here once more and independently of the exporter."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from barlowctl.errors import UserError
from barlowctl.exports import FORMATS, ExportedModel, export, read_export
from barlowctl.exports.formats import format_named
from barlowctl.exports.formats.silent import Silent
from barlowctl.exports.formats.torchvision_network import SAME_KEYS, described
from barlowctl.measure.subjects import open_subject
from barlowctl.model import Preprocessing, build_backbone, build_projector, without_data


def as_after_training(backbone: nn.Module) -> nn.Module:
    """The backbone with statistics that are not zero and one, in torch's order of memory for images."""
    with torch.no_grad():
        for part in backbone.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return backbone.to(memory_format=torch.channels_last)


def exported(name: str = "resnet18", *, size: int = 32, in_chans: int = 3, stem: str = "default", **timm_args):
    torch.manual_seed(0)
    backbone = build_backbone(name, in_chans=in_chans, stem=stem, zero_init_last=False, **timm_args)
    return ExportedModel(
        backbone=as_after_training(backbone),
        architecture=name,
        timm_args=timm_args,
        stem=stem,
        preprocessing=Preprocessing(
            resize=size + 4, crop=size, interpolation="bicubic", mean=(0.25,) * in_chans, std=(0.5,) * in_chans
        ),
        provenance={"recipe": "tiny", "recipe_digest": "0123"},
    )


def images(model: ExportedModel) -> torch.Tensor:
    preprocessing = model.preprocessing
    return torch.rand(3, preprocessing.channels, preprocessing.crop, preprocessing.crop)


def assert_same_features(model: ExportedModel, loaded: nn.Module, tolerance: float = 1e-5) -> None:
    x = images(model)
    with torch.no_grad():
        expected, actual = model.backbone.eval()(x), loaded.eval()(x)
    assert expected.std() > 1e-3, "features that do not vary would prove nothing"
    assert torch.allclose(expected, actual, atol=tolerance * max(1, float(expected.abs().max())), rtol=0)


def run_snippet(snippet: str) -> nn.Module:
    namespace: dict[str, Any] = {}
    exec(snippet, namespace)
    return namespace["model"]


NARROW: dict[str, Any] = {"channels": [8, 8, 16, 16]}
"""A ResNet-18 of few channels, where nobody asks for the whole one."""

TIMM_MODELS = {
    "resnet18": {},
    "one channel": {"in_chans": 1, "channels": [8, 16, 16, 32]},
    "vit": {"name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "depth": 2},
    "regnet": {"name": "regnetx_002", "in_chans": 1},
    "mobilenet": {"name": "mobilenetv3_small_050"},
    "convnext": {"name": "convnext_atto", "depths": [1, 1, 1, 1], "size": 64},
    "merged tokens": {"name": "qwen3_vit_88m_merge", "depth": 1, "embed_dim": 64, "num_heads": 2},
}


@pytest.mark.parametrize("case", TIMM_MODELS)
def test_timm_loads_the_file_in_one_call(tmp_path: Path, case: str) -> None:
    model = exported(**TIMM_MODELS[case])
    report = export(model, tmp_path / "out.safetensors", "timm")
    loaded = timm.create_model(
        model.architecture,
        num_classes=0,
        in_chans=model.preprocessing.channels,
        checkpoint_path=tmp_path / "out.safetensors",
        **model.timm_args,
    )
    assert_same_features(model, loaded)
    assert_same_features(model, run_snippet(report.python_line))
    assert len(report.python_line.splitlines()) == 2
    assert report.max_abs_diff == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]


@pytest.mark.parametrize("case", TIMM_MODELS)
def test_timm_loads_the_hub_folder(tmp_path: Path, case: str) -> None:
    model = exported(**TIMM_MODELS[case])
    report = export(model, tmp_path / "folder", "hub")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    assert_same_features(model, loaded)
    assert_same_features(model, run_snippet(report.python_line))
    data = timm.data.resolve_model_data_config(loaded)
    preprocessing = model.preprocessing
    assert data["input_size"] == (preprocessing.channels, preprocessing.crop, preprocessing.crop)
    assert tuple(data["mean"]) == preprocessing.mean
    assert tuple(data["std"]) == preprocessing.std
    assert data["interpolation"] == "bicubic"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    names = ["README.md", "config.json", "model.safetensors"]
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == names
    assert sorted(report.files) == sorted((tmp_path / "folder").iterdir())


def test_the_hub_folders_transform_resizes_and_crops_as_the_run_did(tmp_path: Path) -> None:
    model = exported(size=49, **NARROW)
    export(model, tmp_path / "folder", "hub")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded))
    resize, crop = transform.transforms[:2]
    assert (resize.size, crop.size) == (53, (49, 49))


@pytest.mark.parametrize("stem", ["cifar", "stride2"])
@pytest.mark.parametrize("deep", [False, True])
def test_changed_stems_are_loaded_by_the_lines_that_are_shown(tmp_path: Path, stem: str, deep: bool) -> None:
    args = {"stem_type": "deep", "stem_width": 8, "channels": [16, 16, 32, 32]} if deep else NARROW
    model = exported(stem=stem, in_chans=1, **args)
    report = export(model, tmp_path / "out.safetensors", "timm")
    assert "model.maxpool = torch.nn.Identity()" in report.python_line
    assert_same_features(model, run_snippet(report.python_line))
    with pytest.raises(UserError, match="is not torchvision's"):
        export(model, tmp_path / "tv.safetensors", "torchvision")


def in_a_new_process(lines: str, model: ExportedModel, folder: Path) -> None:
    """What a person pastes, where nothing of ours is imported: it must give the source's features."""
    x = images(model)
    with torch.no_grad():
        torch.save({"x": x, "expected": model.backbone.eval()(x)}, folder / "features.pt")
    check = (
        f"saved = torch.load({str(folder / 'features.pt')!r})\n"
        "with torch.no_grad(): found = model(saved['x'])\n"
        "assert torch.allclose(found, saved['expected'], atol=1e-4 * float(saved['expected'].abs().max()))\n"
        "import sys; assert not any(name.startswith('barlowctl') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", f"import torch\n{lines}\n{check}"], check=True, cwd=folder)


@pytest.mark.parametrize(("stem", "deep"), [("cifar", False), ("stride2", True)])
def test_a_hub_folder_teaches_timm_the_stem(tmp_path: Path, stem: str, deep: bool) -> None:
    args = {"stem_type": "deep", "stem_width": 8, "channels": [16, 16, 32, 32]} if deep else NARROW
    model = exported(stem=stem, in_chans=1, **args)
    report = export(model, tmp_path / "folder", "hub")
    names = ["README.md", "config.json", "model.safetensors", "register_with_timm.py"]
    assert sorted(path.name for path in report.files) == names
    assert any("register_with_timm.py" in note for note in report.notes)
    if deep:
        in_a_new_process(report.python_line, model, tmp_path)
    # Once taught, timm's own arguments work, and its data configuration is the run's.
    loaded = run_snippet(report.python_line)
    source = f"local-dir:{tmp_path / 'folder'}"
    assert_same_features(model, loaded)
    assert timm.data.resolve_model_data_config(loaded)["input_size"] == (1, 32, 32)
    classifier = timm.create_model(source, pretrained=True, num_classes=7).eval()
    assert classifier(images(model)).shape == (3, 7)
    assert torch.equal(classifier.get_parameter("layer1.0.conv1.weight"), loaded.get_parameter("layer1.0.conv1.weight"))
    coloured = timm.create_model(source, pretrained=True, in_chans=3).eval()
    torch.testing.assert_close(
        coloured.get_parameter("conv1.weight").sum(1), loaded.get_parameter("conv1.weight")[:, 0]
    )
    maps = timm.create_model(source, pretrained=True, features_only=True).eval()
    strides = [32 // one.shape[-1] for one in maps(images(model))]
    assert (
        strides == maps.feature_info.reduction() == [{"cifar": 1, "stride2": 2}[stem] * 2**i for i in (0, 0, 1, 2, 3)]
    )
    # And we read it, too.
    back = read_export(tmp_path / "folder")
    assert (back.architecture, back.stem, back.preprocessing.channels) == ("resnet18", stem, 1)
    assert_same_features(model, back.backbone)


def test_an_untaught_timm_refuses_the_folder_by_name(tmp_path: Path) -> None:
    """It does not build another network in silence."""
    model = exported("resnet26", stem="cifar", channels=[8, 8, 8, 8])
    format_named("hub").write(model, tmp_path / "folder")  # not loaded back, so nothing has taught it yet
    with pytest.raises(RuntimeError, match=r"Unknown model \(resnet26_cifar_stem\)"):
        timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)


@pytest.mark.parametrize(
    "name", ["resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnext50_32x4d", "densenet121"))]
)
def test_torchvision_loads_the_file_and_starts_a_new_classifier(tmp_path: Path, name: str) -> None:
    model, head = exported(name, size=64), "classifier" if name == "densenet121" else "fc"
    report = export(model, tmp_path / "out.safetensors", "torchvision")
    loaded = getattr(torchvision.models, name)(num_classes=10)
    fresh = loaded.get_parameter(f"{head}.weight").detach().clone()
    missing, unexpected = loaded.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=False)
    assert sorted(missing) == [f"{head}.bias", f"{head}.weight"]
    assert unexpected == []
    assert torch.equal(loaded.get_parameter(f"{head}.weight"), fresh)
    setattr(loaded, head, nn.Identity())
    assert_same_features(model, loaded)
    assert_same_features(model, run_snippet(report.python_line))
    classifier = run_snippet(f"{report.python_line}\n{report.fine_tuning_line}")
    assert classifier(images(model)).shape == (3, 10)


def test_a_classifier_of_zeros_when_asked_for(tmp_path: Path) -> None:
    model = exported(size=64)
    report = export(model, tmp_path / "out.safetensors", "torchvision", zero_classifier=True)
    loaded = torchvision.models.resnet18()
    loaded.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
    assert not loaded.eval()(images(model)).any()
    assert_same_features(model, run_snippet(report.python_line))
    assert any("zeros" in note for note in report.notes)
    assert_same_features(model, read_export(report.path).backbone)
    with pytest.raises(UserError, match="no classifier to fill"):
        export(model, tmp_path / "timm.safetensors", "timm", zero_classifier=True)


@pytest.mark.parametrize("case", TIMM_MODELS)
def test_a_new_classifier_by_the_line_that_is_shown(tmp_path: Path, case: str) -> None:
    model = exported(**TIMM_MODELS[case])
    report = export(model, tmp_path / "folder", "hub")
    classifier = run_snippet(f"{report.python_line}\n{report.fine_tuning_line}")
    assert classifier(images(model)).shape == (3, 10)
    again = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True, num_classes=10)
    key = next(key for key, _ in model.backbone.named_parameters())
    assert torch.equal(again.get_parameter(key), model.backbone.get_parameter(key))


def test_the_notes_say_what_images_it_expects(tmp_path: Path) -> None:
    report = export(exported(channels=[8, 8, 8, 8], in_chans=1), tmp_path / "out.safetensors", "timm")
    assert report.notes == (
        "images it expects: shorter side 36 pixels (bicubic), the central 32 x 32, 1 channel in [0, 1], minus (0.25), "
        "divided by (0.5)",
    )


def test_torchvision_names_are_those_that_share_their_keys() -> None:
    for name in SAME_KEYS:
        with without_data():
            theirs = torchvision.models.get_model(name, weights=None).state_dict()
            ours = timm.create_model(name, num_classes=0).state_dict()
        rest = {key.split(".")[0] for key in theirs.keys() - ours.keys()}
        assert rest in ({"fc"}, {"classifier"}), name
        assert {k: v.shape for k, v in ours.items()} == {k: theirs[k].shape for k in ours}, name


def test_what_torchvision_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    with pytest.raises(UserError, match="no model with the keys of 'regnetx_002'") as error:
        export(exported("regnetx_002"), path, "torchvision")
    assert "resnet50" in (error.value.allowed or "")
    with pytest.raises(UserError, match="take 3 channels and this one takes 1"):
        export(exported(in_chans=1), path, "torchvision")
    with pytest.raises(UserError, match=r"has layer1\.0\.conv1\.weight of 8 x 64 x 3 x 3 instead of 64 x 64"):
        export(exported(channels=[8, 16, 16, 32]), path, "torchvision")
    with pytest.raises(UserError, match="gives other features"):  # same shapes, another function
        export(exported(act_layer="silu"), path, "torchvision")
    with pytest.raises(UserError, match="unknown export format 'tflite'"):
        export(exported(**NARROW), path, "tflite")
    assert list(tmp_path.iterdir()) == []


SLOW = {"onnx": pytest.mark.slow}


@pytest.mark.parametrize("format", [pytest.param(name, marks=SLOW.get(name, ())) for name in FORMATS])
def test_altered_weights_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    right = FORMATS[format].write
    if format == "transformers":
        pytest.importorskip("transformers", reason="the format is loaded back by it")

    arguments = {} if format == "torchvision" else NARROW

    def wrong(self: Any, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        torch.manual_seed(1)
        other = build_backbone("resnet18", in_chans=3, **arguments)
        return right(self, replace(model, backbone=other), path)

    monkeypatch.setattr(FORMATS[format], "write", wrong)
    with pytest.raises(UserError, match="gives other features than the run's: they differ by up to"):
        export(exported(**arguments), tmp_path / "deep" / "out", format)
    assert list(tmp_path.iterdir()) == []  # not the folder either, which was not there before


def test_what_its_library_cannot_load_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = 'raise RuntimeError("a size is another one:\\n\\tits numbers")'
    monkeypatch.setattr(FORMATS["hub"], "load_lines", lambda self, model, path: lines)
    with pytest.raises(
        UserError, match=r"resnet18 .* cannot be loaded back by format 'hub': a size .*; nothing"
    ) as error:
        export(exported(**NARROW), tmp_path / "out", "hub")
    assert error.value.next == "--format timm"
    assert list(tmp_path.iterdir()) == []


NOT_OF_THE_CROP: dict[str, dict[str, Any]] = {
    "crossvit_9_240": {"size": 224, "embed_dim": (16, 32), "depth": ((1, 1, 0),), "num_heads": (1, 1)},
    "efficientvit_m0": {"size": 48, "embed_dim": (16, 32, 48), "num_heads": (1, 1, 1)},  # notes its size as a number
    "test_vit2": {"size": 48, "depth": 1, "embed_dim": 16},
    "vit_tiny_patch16_224": {
        "size": 48, "img_size": 80, "depth": 1, "embed_dim": 16, "num_heads": 1, "dynamic_img_size": True
    },
}  # fmt: skip


@pytest.mark.parametrize("format", ["hub", "transformers"])
@pytest.mark.parametrize("name", NOT_OF_THE_CROP)
def test_a_folder_says_which_size_its_weights_are_for_where_images_are_of_another(
    tmp_path: Path, name: str, format: str
) -> None:
    """CrossViT resizes images itself, a ViT of any size its positions: timm builds either for the images' size."""
    model = exported(name, **NOT_OF_THE_CROP[name])
    with torch.no_grad():
        for key, parameter in model.backbone.named_parameters():
            if "pos_embed" in key:
                parameter.normal_()
    assert export(model, tmp_path / "folder", format).max_abs_diff < 1e-5
    assert_same_features(model, read_export(tmp_path / "folder").backbone)


@pytest.mark.parametrize("format", ["timm", "torchvision", "hub"])
def test_the_same_weights_are_the_same_bytes(tmp_path: Path, format: str) -> None:
    """safetensors writes metadata in an order of chance: a push would send the weights again that are there already."""
    projector = build_projector(16, (16, 8)) if format != "torchvision" else None
    model = replace(
        exported(**({} if format == "torchvision" else NARROW)),
        projector=projector,
        provenance={"recipe": 'größe "1"\n', "run": "a"},
    )
    first, second = (tmp_path / name for name in ("1.safetensors", "2.safetensors"))
    for out in (first, second):
        export(model, out, format, with_projector=projector is not None)
    files = [path.relative_to(first) for path in first.rglob("*.safetensors")] or [Path()]
    assert len(files) == (2 if format == "hub" else 1)
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
    if format == "hub":
        return
    with safe_open(first, framework="pt") as file:
        assert file.metadata() == (described(model) if format == "torchvision" else model).metadata()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = exported(**NARROW)
    with torch.no_grad():
        model.backbone.layer4[0].conv1.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="resnet18 are infinite or not a number; nothing was written") as error:
        export(model, tmp_path / "out.safetensors", "timm")
    assert error.value.next == "export another run or checkpoint"
    assert list(tmp_path.iterdir()) == []


def test_the_source_is_left_as_it_was(tmp_path: Path) -> None:
    model = exported(**NARROW)
    model.backbone.train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    export(model, tmp_path / "out.safetensors", "timm")
    assert all(part.training for part in model.backbone.modules())
    assert model.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_lower_precision_weights_become_float32(tmp_path: Path) -> None:
    model = exported(**NARROW)
    model.backbone.bfloat16()
    export(model, tmp_path / "out.safetensors", "timm")
    weights = load_file(tmp_path / "out.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float32, torch.int64}


def test_metadata_says_where_the_weights_come_from(tmp_path: Path) -> None:
    export(exported(in_chans=1, channels=[8, 8, 8, 8]), tmp_path / "out.safetensors", "timm")
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == "resnet18"
    assert json.loads(metadata["timm_args"]) == {"channels": [8, 8, 8, 8]}
    assert metadata["recipe"] == "tiny"
    assert metadata["recipe_digest"] == "0123"
    assert metadata["barlowctl"]


@pytest.mark.parametrize(("key", "value"), [("resize", None), ("mean", "x"), ("mean", "5"), ("timm_args", None)])
def test_metadata_that_are_not_an_exports_are_refused(tmp_path: Path, key: str, value: str | None) -> None:
    path, model = tmp_path / "out.safetensors", exported(channels=[8, 8, 8, 8])
    metadata = {name: text for name, text in model.metadata().items() if name != key}
    save_file({"x": torch.zeros(1)}, path, metadata=metadata | ({key: value} if value else {}))
    with pytest.raises(UserError, match=r"the metadata of '.*' are not those of an export"):
        read_export(path)


@pytest.mark.parametrize("changed", [[], {"pretrained_cfg": {"mean": 5}}, {"model_args": 3}, {"pretrained_cfg": 3}])
def test_a_config_that_is_no_models_is_refused(tmp_path: Path, changed: Any) -> None:
    export(exported(channels=[8, 8, 8, 8]), tmp_path / "folder", "hub")
    config = tmp_path / "folder" / "config.json"
    config.write_text(json.dumps(changed and {**json.loads(config.read_text()), **changed}))
    with pytest.raises(UserError, match="is not a model folder"):
        read_export(tmp_path / "folder")


@pytest.mark.parametrize("format", ["timm", "hub"])
def test_the_projector_goes_along(tmp_path: Path, format: str) -> None:
    projector = build_projector(32, (16, 8))
    model = replace(exported(channels=[8, 8, 16, 32]), projector=projector)
    out = tmp_path / ("out.safetensors" if format == "timm" else "out")
    report = export(model, out, format, with_projector=True)
    path = tmp_path / "out.projector.safetensors" if format == "timm" else out / "projector.safetensors"
    assert path in report.files
    fresh = build_projector(32, (16, 8))
    fresh.load_state_dict(load_file(path))
    x = torch.randn(4, 32)
    assert torch.equal(fresh.eval()(x), projector.eval()(x))
    assert_same_features(model, run_snippet(report.python_line))
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_projector_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no projector"):
        export(exported(**NARROW), tmp_path / "out.safetensors", "timm", with_projector=True)


def test_paths(tmp_path: Path) -> None:
    model = exported(channels=[8, 8, 8, 8])
    assert export(model, tmp_path / "a", "timm").path == tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="exists"):
        export(model, tmp_path / "a.safetensors", "timm")
    export(model, tmp_path / "a.safetensors", "timm", overwrite=True)
    with pytest.raises(UserError, match=r"ends in '\.pth'"):
        export(model, tmp_path / "a.pth", "timm")
    with pytest.raises(UserError, match="is a file"):
        export(model, tmp_path / "a.safetensors", "hub", overwrite=True)
    export(model, tmp_path / "folder", "hub")
    export(model, tmp_path / "folder", "hub", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty and not an export"):
        export(model, tmp_path / "mine", "hub", overwrite=True)
    with pytest.raises(UserError, match="is no folder"):
        export(model, tmp_path / "a.safetensors" / "b.safetensors", "timm")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "folder", "mine"]


def test_paths_with_quotes_and_blanks_are_safe_in_the_snippet(tmp_path: Path) -> None:
    model = exported(channels=[8, 8, 8, 8])
    for format, name in [("timm", 'it\'s "one".safetensors'), ("hub", "it's a folder")]:
        report = export(model, tmp_path / name, format)
        assert_same_features(model, run_snippet(report.python_line))


class Pickled(Silent):
    """A format as somebody would add it: a whole module as torch.save writes it."""

    name, summary, suffix, tolerance = "pickled", "a file of torch.save", ".pt", 1e-5

    def check(self, model: ExportedModel) -> None:
        if model.preprocessing.channels != 3:
            raise UserError("colour only")

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        torch.save(model.backbone, path)
        return (path,)

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        return f"import torch\nmodel = torch.load({str(path)!r}, weights_only=False).eval()"

    def features(self, model: ExportedModel, loaded: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        return loaded(model.input_of(pixels))

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        return f"model.reset_classifier({classes})"

    def check_loaded(self, model: ExportedModel, loaded: nn.Module) -> None:
        assert type(loaded) is type(model.backbone)

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        return ("pickled: load it only if you trust it",)


def test_a_new_format_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "pickled", Pickled)
    model = exported(channels=[8, 8, 8, 8])
    report = export(model, tmp_path / "out", "pickled")
    assert report.path == tmp_path / "out.pt"
    assert report.notes[-1] == "pickled: load it only if you trust it"
    assert_same_features(model, run_snippet(report.python_line))
    with pytest.raises(UserError, match="colour only"):
        export(exported(in_chans=1), tmp_path / "grey", "pickled")
    with pytest.raises(UserError, match=r"is a \.pt file"):
        export(model, tmp_path / "out.safetensors", "pickled")
    assert [p.name for p in tmp_path.iterdir()] == ["out.pt"]


def test_the_guide_and_the_help_name_every_format(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from barlowctl.cli.app import run as barlowctl

    guide = (checkout / "docs" / "guide.md").read_text(encoding="utf-8")
    line = next(line for line in guide.splitlines() if line.startswith("    barlowctl export runs/NAME --format "))
    assert set(re.findall(r"\w+", line)) >= set(FORMATS)
    assert all(f"\n| {name} |" in guide for name in FORMATS)
    assert barlowctl(["export", "--help"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for name, kind in FORMATS.items():
        assert f"{name}: {kind.summary}" in output


def test_the_line_for_a_plain_resnet50() -> None:
    model = replace(exported(**NARROW), architecture="resnet50", timm_args={})
    assert format_named("timm").load_lines(model, Path("w.safetensors")).splitlines()[-1] == (
        "model = timm.create_model('resnet50', num_classes=0, checkpoint_path='w.safetensors').eval()"
    )


@pytest.mark.parametrize(
    ("given", "squash", "sides"),
    [([], True, (36, 32)), (["eval.crop=24"], True, (36, 24)), (["eval.resize=40"], False, (40, 32))],
)
def test_what_takes_squashed_pictures_is_shown_the_centre_when_a_shorter_side_is_asked_for(
    tmp_path: Path, given: list[str], squash: bool, sides: tuple[int, int]
) -> None:
    model = exported(channels=[8, 8, 16, 16])
    export(
        replace(model, preprocessing=replace(model.preprocessing, squash=True)), tmp_path / "net.safetensors", "timm"
    )
    preprocessing = open_subject(str(tmp_path / "net.safetensors"), overrides=given).preprocessing
    assert preprocessing.squash == squash
    assert (preprocessing.resize, preprocessing.crop) == sides
