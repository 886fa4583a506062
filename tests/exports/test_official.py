"""The authors' two file layouts, built here from torchvision's models as their code builds them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from barlowctl.errors import UserError
from barlowctl.exports import FORMATS, export, official, read_official


class AuthorsModel(nn.Module):
    """Structure of `BarlowTwins` in the authors' main.py, with a smaller projector."""

    def __init__(self, name: str, sizes: list[int]) -> None:
        super().__init__()
        self.backbone = getattr(torchvision.models, name)(zero_init_residual=True)
        sizes = [self.backbone.fc.in_features, *sizes]
        self.backbone.fc = nn.Identity()
        layers: list[nn.Module] = []
        for i in range(len(sizes) - 2):
            layers += [nn.Linear(sizes[i], sizes[i + 1], bias=False)]
            layers += [nn.BatchNorm1d(sizes[i + 1]), nn.ReLU(inplace=True)]
        layers.append(nn.Linear(sizes[-2], sizes[-1], bias=False))
        self.projector = nn.Sequential(*layers)
        self.bn = nn.BatchNorm1d(sizes[-1], affine=False)


def exclude_bias_and_norm(p):
    return p.ndim == 1


def authors(name: str = "resnet18") -> AuthorsModel:
    torch.manual_seed(0)
    model = AuthorsModel(name, [12, 12, 10])
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                part.running_mean.normal_(0, 0.1)
                if part.affine:
                    part.weight.uniform_(0.2, 1.0)
    return model.eval()


def full_checkpoint(model: AuthorsModel) -> dict:
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    momentum = {i: {"mu": torch.zeros(2)} for i in range(2)}
    groups = [{"lr": 0.2, "weight_decay_filter": True, "params": [0, 1]}]
    return {"epoch": 1000, "model": state, "optimizer": {"state": momentum, "param_groups": groups}}


def assert_same_features(ours: nn.Module, theirs: nn.Module) -> None:
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.eval()(x)
        assert torch.allclose(ours.eval()(x), expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["resnet50", "resnet18"])
@pytest.mark.parametrize("layout", ["backbone", "checkpoint"])
def test_both_layouts(tmp_path: Path, name: str, layout: str) -> None:
    source = authors(name)
    path = tmp_path / "file.pth"
    torch.save(source.backbone.state_dict() if layout == "backbone" else full_checkpoint(source), path)
    model = read_official(path)
    assert model.architecture == name
    assert model.provenance["source_file"] == "file.pth"
    assert_same_features(model.backbone, source.backbone)
    if layout == "backbone":
        assert model.projector is None
    else:
        assert model.provenance["epochs"] == "1000"
        x = torch.randn(4, source.projector[0].in_features)
        assert model.projector is not None
        assert torch.equal(model.projector.eval()(x), source.projector(x))


@pytest.mark.slow
def test_conversion_to_every_format(tmp_path: Path) -> None:
    source = authors()
    torch.save(full_checkpoint(source), tmp_path / "checkpoint.pth")
    model = read_official(tmp_path / "checkpoint.pth")
    for format in FORMATS.keys() - {"onnx"}:  # which is of any model, and takes ten seconds
        if format == "transformers" and find_spec("transformers") is None:
            continue
        report = export(model, tmp_path / format, format, with_projector=True)
        assert report.max_abs_diff < 1e-4
        assert len(report.files) == (4 if format in ("hub", "transformers") else 2)
    loaded = torchvision.models.resnet18()
    loaded.fc = nn.Identity()
    loaded.load_state_dict(load_file(tmp_path / "torchvision.safetensors"))
    assert_same_features(loaded, source.backbone)


def test_early_checkpoints_that_name_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = full_checkpoint(authors())
    function = exclude_bias_and_norm
    monkeypatch.setattr(function, "__module__", "__main__")
    monkeypatch.setattr("__main__.exclude_bias_and_norm", function, raising=False)
    checkpoint["optimizer"]["param_groups"][0]["weight_decay_filter"] = function
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    with pytest.raises(Exception, match="exclude_bias_and_norm"):
        torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert read_official(tmp_path / "checkpoint.pth").architecture == "resnet18"


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil-was-here"),))


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Evil()}, "evil.pth")
    with pytest.raises(
        UserError,
        match=r"evil\.pth' cannot be read as weights: it holds .*, which is code.*torch.save\(model.state_dict",
    ) as error:
        read_official(Path("evil.pth"))
    assert error.value.message.isprintable()
    assert not Path("evil-was-here").exists()


def without(state: dict, key: str) -> dict:
    return {k: v for k, v in state.items() if k != key}


OTHERS = {
    "other keys": (lambda: {"state_dict": {"a": torch.zeros(1)}}, "its keys: state_dict"),
    "a key is missing": (
        lambda: without(dict(authors().backbone.state_dict()), "conv1.weight"),
        r"compared with resnet18, the nearest, it lacks conv1\.weight; its keys",
    ),
    "a key too many": (
        lambda: {**authors().backbone.state_dict(), "layer5.weight": torch.zeros(1)},
        r"resnet18, the nearest, it has layer5\.weight, unknown to the network",
    ),
    "another shape": (
        lambda: {**authors().backbone.state_dict(), "conv1.weight": torch.zeros(64, 1, 7, 7)},
        r"resnet18, the nearest, it has conv1\.weight of 64 x 1 x 7 x 7 instead of 64 x 3 x 7 x 7",
    ),
    "another model": (lambda: {"model": {"module.encoder.w": torch.zeros(1)}}, r"keys: module\.encoder\.w"),
    "something beside the backbone": (
        lambda: {"model": {**full_checkpoint(authors())["model"], "module.queue": torch.zeros(1)}},
        r"beside backbone\., projector\. and bn\. it has queue",
    ),
    "half a projector": (
        lambda: {"model": without(full_checkpoint(authors())["model"], "module.projector.1.weight")},
        r"its projector lacks 1\.weight",
    ),
    "no tensor": (lambda: {"conv1.weight": 3}, r"conv1\.weight is no tensor"),
    "a list": (lambda: [1, 2], "holds a list"),
    "empty": (dict, "its keys: none"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_files_are_refused_with_their_keys(tmp_path: Path, case: str) -> None:
    make, message = OTHERS[case]
    torch.save(make(), tmp_path / "x.pth")
    with pytest.raises(UserError, match=message) as error:
        read_official(tmp_path / "x.pth")
    assert "checkpoint.pth" in (error.value.allowed or "")


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read_official(tmp_path / "nothing.pth")
    for content, reason in (
        (b"", "the file is empty"),
        (b"hello", r"\w"),
        (b"PK\x03\x04 but no zip", "not whole"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
    ):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(UserError, match=f"x.pth' cannot be read as weights: .*{reason}") as error:
            read_official(tmp_path / "x.pth")
        assert error.value.message.isprintable()  # one line, no colours of others


def test_a_classifier_is_left_out(tmp_path: Path) -> None:
    """torchvision's own file, and a checkpoint of the authors' evaluate.py."""
    model = torchvision.models.resnet18().eval()
    features = torchvision.models.resnet18()
    features.load_state_dict(model.state_dict())
    features.fc = nn.Identity()
    wrapped = {f"module.{key}": value for key, value in model.state_dict().items()}
    for document in (model.state_dict(), {"epoch": 7, "best_acc": 1.0, "model": wrapped, "optimizer": {}}):
        torch.save(document, tmp_path / "x.pth")
        loaded = read_official(tmp_path / "x.pth")
        assert loaded.architecture == "resnet18"
        assert_same_features(loaded.backbone, features)


def test_the_published_architecture_comes_first() -> None:
    assert official.OFFICIAL_NAMES[0] == "resnet50"
