"""Format "onnx": ONNX Runtime computes torch's features of photographs, in both precisions, in batches of any size."""

from __future__ import annotations

import json
import logging
import re
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from barlowctl.errors import UserError
from barlowctl.exports import ExportedModel, export
from barlowctl.exports.formats import format_named, onnx_file
from barlowctl.exports.formats.tolerance import OTHER_KERNELS
from barlowctl.model import Preprocessing, build_backbone
from tests.exports.test_export import as_after_training

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2}  # of the largest feature, as docs/guide.md says
MEASURED = {"fp32": 1e-4, "fp16": 5e-3}  # these networks stay below
MEAN, STD = (0.485, 0.456, 0.406, 0.3, 0.7), (0.229, 0.224, 0.225, 0.2, 0.3)


@dataclass(frozen=True)
class Case:
    """What is exported, and how."""

    name: str
    size: int
    timm_args: str = "{}"
    channels: int = 3
    stem: str = "default"
    with_preprocessing: bool = False
    precision: Literal["fp32", "fp16"] = "fp32"

    def model(self) -> ExportedModel:
        torch.manual_seed(0)
        args = json.loads(self.timm_args)
        backbone = (
            one_layer()
            if self is TINY
            else build_backbone(self.name, in_chans=self.channels, stem=self.stem, zero_init_last=False, **args)
        )
        if args.get("dynamic_img_size") and hasattr(backbone, "pos_embed"):
            nn.init.normal_(backbone.pos_embed)  # as they are drawn they hardly matter
        return ExportedModel(
            backbone=as_after_training(backbone),
            architecture=self.name,
            timm_args=args,
            stem=self.stem,
            preprocessing=Preprocessing(
                resize=self.size + 8, crop=self.size, interpolation="bicubic",
                mean=MEAN[: self.channels], std=STD[: self.channels],
            ),
            provenance={"recipe": "tiny", "recipe_digest": "0123", "run": "tiny-20261127"},
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        return {"with_preprocessing": self.with_preprocessing, "precision": self.precision}


def one_layer() -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))


VIT = '{"img_size": 32, "patch_size": 8, "depth": 1}'
OF_80_PIXELS = (
    '{"img_size": 80, "patch_size": 8, "depth": 1, "embed_dim": 64, "num_heads": 1, "dynamic_img_size": true}'
)
SWIN_OF_64_PIXELS = (
    '{"img_size": 64, "depths": [2, 2, 2, 1], "embed_dim": 32, "num_heads": [1, 1, 1, 1], "dynamic_img_size": true}'
)
SMALL = {
    "resnet": Case("resnet10t", 32, '{"channels": [8, 16, 16, 32]}', with_preprocessing=True, precision="fp16"),
    "vit": Case("vit_tiny_patch16_224", 32, VIT),
    "grey convnext": Case("convnext_atto", 64, '{"depths": [1, 1, 1, 1]}', channels=1, with_preprocessing=True),
}
OTHERS = {
    "five channels": Case("resnet10t", 32, channels=5, with_preprocessing=True),
    "five channels, outside": Case("vit_tiny_patch16_224", 32, VIT, channels=5, precision="fp16"),
    "grey resnet, small stem": Case("resnet18", 32, channels=1, stem="cifar", precision="fp16"),
    "vit, patches' mean": Case("vit_tiny_patch16_224", 32, VIT[:-1] + ', "global_pool": "avg"}', precision="fp16"),
    "eva, images of another size": Case("eva02_tiny_patch14_224", 112, OF_80_PIXELS),
    "deit, images of another size": Case("deit_tiny_distilled_patch16_224", 112, OF_80_PIXELS),
    "regnet": Case("regnetx_002", 64, with_preprocessing=True),
    "mobilenet": Case("mobilenetv3_small_050", 64),
    "swin, images of another size": Case("swin_tiny_patch4_window7_224", 96, SWIN_OF_64_PIXELS),
    "swin": Case("swin_tiny_patch4_window7_224", 224, with_preprocessing=True),
}
TINY = Case("resnet10t", 32)
"""A network of one layer, where what follows its writing is asked for: torch's exporter takes a second for others."""
ARCHITECTURES = {"resnet50": 224, "vit_small_patch16_224": 224, "convnext_tiny": 224}


@cache
def photographs(size: int, channels: int) -> np.ndarray:
    """Photographs of scikit-image, (3, size, size, channels) uint8; of five channels the last are made of the first."""
    images = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    images = [image.convert("L" if channels == 1 else "RGB").resize((size, size)) for image in images]
    pixels = np.stack([np.asarray(image).reshape(size, size, min(channels, 3)) for image in images])
    return pixels if channels <= 3 else np.concatenate([pixels, 255 - pixels[..., : channels - 3] // 2], axis=-1)


def normalised(pixels: np.ndarray) -> np.ndarray:
    """The backbone's input, from the formula."""
    channels = pixels.shape[-1]
    values = (pixels / 255 - np.array(MEAN[:channels])) / np.array(STD[:channels])
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)).astype(np.float32)


def torchs(model: ExportedModel, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.backbone.eval()(torch.from_numpy(normalised(pixels))).numpy()


def assert_close(features: np.ndarray, expected: np.ndarray, precision: str) -> None:
    assert features.dtype == np.float32
    assert features.shape == expected.shape
    assert np.abs(expected[0] - expected[-1]).max() > 3 * MEASURED[precision] * max(1, np.abs(expected).max()) or (
        len(expected) == 1
    ), "features that do not vary would prove nothing"
    assert np.abs(features - expected).max() <= MEASURED[precision] * max(1, np.abs(expected).max())


def assert_torchs_features(case: Case, path: Path) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = case.model()
    model.backbone.train()
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    drawn = torch.random.get_rng_state()
    report = export(model, path.with_suffix(""), "onnx", **case.options())
    assert report.path == path
    assert report.fine_tuning_line == ""
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(part.training for part in model.backbone.modules()), "the source is left as it was"
    for key, value in model.backbone.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key]), key
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = photographs(case.size, case.channels)
    images = pixels if case.with_preprocessing else normalised(pixels)
    expected = torchs(model, pixels)
    for batch in (slice(0, 1), slice(0, 3)):
        (features,) = session.run(["features"], {"images": images[batch]})
        assert_close(features, expected[batch], case.precision)
    namespace: dict[str, Any] = {}
    exec(report.python_line, namespace)
    assert_close(namespace["model"](images), expected, case.precision)
    return session


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "grey convnext")) for kind in SMALL]
)
def test_onnx_runtime_computes_torchs_features(tmp_path: Path, kind: str) -> None:
    case, path = SMALL[kind], tmp_path / "out.onnx"
    onnx = pytest.importorskip("onnx")
    session = assert_torchs_features(case, path)
    (images,), (features,) = session.get_inputs(), session.get_outputs()
    shape, type = [case.channels, case.size, case.size], "tensor(float)"
    if case.with_preprocessing:
        shape, type = [case.size, case.size, case.channels], "tensor(uint8)"
    assert (images.name, images.shape[1:], images.type) == ("images", shape, type)
    assert (features.name, features.type) == ("features", "tensor(float)")
    assert isinstance(images.shape[0], str), "a batch of any size"
    assert [file.name for file in tmp_path.iterdir()] == ["out.onnx"], "the weights are in it"

    facts = session.get_modelmeta().custom_metadata_map
    assert facts == {
        **case.model().metadata(),
        "format": "onnx",
        "opset": "18",
        "precision": case.precision,
        "images": f"{'uint8' if case.with_preprocessing else 'float32'} (N, {', '.join(map(str, shape))})",
        "normalised_inside": "true" if case.with_preprocessing else "false",
        "tolerance": str(TOLERANCE[case.precision]),
    }
    proto = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in proto.opset_import if opset.domain == ""] == [("", 18)]
    half = {value.data_type == onnx.TensorProto.FLOAT16 for value in proto.graph.initializer if len(value.dims) > 1}
    assert (True in half) == (case.precision == "fp16")
    for place in (Path(torch.__file__).parents[1], Path(__file__).parents[2]):
        assert str(place).encode() not in path.read_bytes(), "where torch lies is nobody's business"


def test_position_embeddings_of_another_size_are_interpolated_as_torch_does(tmp_path: Path) -> None:
    """torch folds constants as it writes the file: of 10 x 10 small embeddings it makes 14 x 14 wrong ones (2.15)."""
    assert_torchs_features(Case("vit_tiny_patch16_224", 112, OF_80_PIXELS), tmp_path / "out.onnx")


@pytest.mark.slow
def test_attention_that_torch_does_not_write_is_written_out(tmp_path: Path) -> None:
    one_block = '{"img_size": 32, "patch_size": 8, "depth": 1}'
    assert_torchs_features(Case("test_vit_relpos", 32, one_block), tmp_path / "out.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("bound", [float("inf"), 0.5])
def test_bounds_that_layers_clip_by_are_written(tmp_path: Path, bound: float) -> None:
    """Gemma's vision transformer: torch writes no Clip between two tensors, but one that nothing can read."""
    widths = '{"embed_dim": 48, "depth": 1, "num_heads": 1, "head_dim": 48, "intermediate_size": 16}'
    model = Case("gemma4_vit_167m", 96, widths).model()
    for name, buffer in model.backbone.named_buffers():
        if name.endswith(("_min", "_max")):
            buffer.fill_(bound if name.endswith("_max") else -bound)
    assert export(model, tmp_path / "out.onnx", "onnx").max_abs_diff < OTHER_KERNELS


def test_what_the_exporter_logs_is_held_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As "Skipping constant folding", a warning about some networks: whoever exports can do nothing about it."""
    names, write = (
        ("torch.onnx._internal", "onnxscript.optimizer._constant_folding", "onnx_ir.passes"),
        torch.onnx.export,
    )

    def logged(*arguments: Any, **options: Any) -> Any:
        for name in names:
            logging.getLogger(name).warning("Skipping constant folding")
        print("Applied 31 of general pattern rewrite rules.")  # where the command's JSON goes
        return write(*arguments, **options)

    monkeypatch.setattr(torch.onnx, "export", logged)
    texts: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: texts.append(record.getMessage()))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    export(TINY.model(), tmp_path / "out.onnx", "onnx")
    assert not [text for text in texts if "Skipping" in text]
    assert capsys.readouterr().out == ""
    logging.getLogger(names[1]).warning("afterwards")
    assert "afterwards" in texts


def test_what_is_no_onnx_is_refused_in_its_checkers_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    def refuse(proto: Any) -> None:
        raise onnx.checker.ValidationError("Nodes must be sorted\nname: Clip")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(UserError, match=r"torch cannot write resnet10t as ONNX: Nodes must be sorted") as error:
        export(TINY.model(), tmp_path / "out.onnx", "onnx")
    assert error.value.next == "--format timm"
    assert list(tmp_path.iterdir()) == []


def test_what_torch_cannot_write_is_said_in_its_first_words(tmp_path: Path) -> None:
    class Deciding(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.sum() > 0:  # which no graph holds
                return x.mean((2, 3))
            return x.amax((2, 3))

    case = SMALL["resnet"]
    model = replace(case.model(), backbone=Deciding())
    with pytest.raises(UserError, match="torch cannot write resnet10t as ONNX: ") as raised:
        export(model, tmp_path / "out", "onnx")
    assert "Next steps" not in raised.value.message
    assert "step 1/3" not in raised.value.message
    assert raised.value.next == "--format timm"
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHERS)
def test_other_networks(tmp_path: Path, kind: str) -> None:
    assert_torchs_features(OTHERS[kind], tmp_path / "out.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("options", [("fp32", False), ("fp16", True)], ids=["fp32", "fp16 with preprocessing"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_whole_architectures(tmp_path: Path, name: str, channels: int, options: tuple[Any, bool]) -> None:
    case = Case(name, ARCHITECTURES[name], channels=channels, precision=options[0], with_preprocessing=options[1])
    assert_torchs_features(case, tmp_path / "out.onnx")


def test_the_notes_say_what_it_takes() -> None:
    model = SMALL["grey convnext"].model()
    assert format_named("onnx", precision="fp16").notes(model) == (
        "ONNX opset 18, fp16, a batch of any size: images are float32 (N, 1, 64, 64), and are normalised by whoever "
        "calls it; resizing and cropping are outside the file",
    )
    (inside,) = format_named("onnx", with_preprocessing=True).notes(model)
    assert "images are uint8 (N, 64, 64, 1), and are normalised inside: give it pixels as they are;" in inside


def test_features_beyond_float16_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = SMALL["vit"].model()
    with torch.no_grad():
        model.backbone.norm.weight.fill_(6e4)
    with pytest.raises(UserError, match="numbers above 65504") as error:
        export(model, tmp_path / "out.onnx", "onnx", precision="fp16")
    assert error.value.next == "--precision fp32"
    assert list(tmp_path.iterdir()) == []


def test_features_that_are_not_finite_in_float32_are_not_blamed_on_float16(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = TINY.model()
    with torch.no_grad():
        model.backbone[3].weight.fill_(float("inf"))
    with pytest.raises(UserError, match="are infinite or not a number"):
        export(model, tmp_path / "out.onnx", "onnx", precision="fp16")
    assert list(tmp_path.iterdir()) == []


def test_without_its_packages_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnx, onnxscript, onnxruntime; not installed: .*onnxruntime") as error:
        export(SMALL["resnet"].model(), tmp_path / "out.onnx", "onnx")
    assert error.value.next == "pip install 'barlowctl[onnx]'"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("side", "next"), [(25_000, "--precision fp16"), (40_000, "--format timm")])
def test_weights_of_two_gibibytes_are_refused(monkeypatch: pytest.MonkeyPatch, side: int, next: str) -> None:
    monkeypatch.setattr(onnx_file, "PACKAGES", ())
    source = SMALL["resnet"].model()
    model = ExportedModel(
        backbone=nn.Linear(side, side, device="meta"), architecture="giant", timm_args={}, stem="default",
        preprocessing=source.preprocessing,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"holds 2 GiB, and the weights of giant in fp32 are \d\.\d GiB") as error:
        format_named("onnx").check(model)
    assert error.value.next == next


def test_options_are_of_the_formats_that_have_them() -> None:
    with pytest.raises(UserError, match="'timm' has weights alone") as error:
        format_named("timm", with_preprocessing=True)
    assert error.value.allowed == "--with-preprocessing with --format onnx"
    with pytest.raises(UserError, match="'hub' has float32 weights only"):
        format_named("hub", precision="fp16")
    with pytest.raises(UserError, match="'onnx' has no classifier to fill with zeros"):
        format_named("onnx", zero_classifier=True)
    with pytest.raises(TypeError, match="no option 'zeros'"):
        format_named("timm", zeros=True)  # type: ignore[call-arg]
    assert format_named("timm", zero_classifier=False, precision="fp32").name == "timm"


def test_the_guides_lines_are_the_runs_evaluation(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    text = (checkout / "docs" / "guide.md").read_text(encoding="utf-8")
    section = text.partition("### Running an export without torch")[2].partition("\n### ")[0]
    assert "1e-4" in section
    assert "2e-2" in section
    assert "opset 18" in section
    (lines,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert "torch" not in lines
    model = SMALL["vit"].model()
    monkeypatch.chdir(tmp_path)
    export(model, Path("my-model.onnx"), "onnx", with_preprocessing=True)
    photograph = Image.fromarray(skimage.data.chelsea())  # 451 x 300
    photograph.save("photo.png")
    namespace: dict[str, Any] = {}
    exec(lines.replace("photo.jpg", "photo.png"), namespace)
    evaluated = v2.Compose([v2.Resize(40, v2.InterpolationMode.BICUBIC), v2.CenterCrop(32)])(photograph)
    assert np.array_equal(namespace["pixels"][0], np.asarray(evaluated))
    assert_close(namespace["features"], torchs(model, np.asarray(evaluated)[None]), "fp32")
