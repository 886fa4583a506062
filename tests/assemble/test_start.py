"""What a training starts from: every method's networks filled, statistics of the input, weights that are refused."""

from __future__ import annotations

import argparse
import shlex
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import Tensor

from barlowctl import processor
from barlowctl.assemble import misfit
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.methods import Context
from barlowctl.assemble.model import build_backbone, build_method, preprocessing_of
from barlowctl.assemble.plan import plan
from barlowctl.assemble.start import begin
from barlowctl.assemble.synthetic_steps import SyntheticSteps
from barlowctl.assemble.weights import Weights, read_weights
from barlowctl.distributed import Ranks
from barlowctl.errors import UserError
from barlowctl.exports import ExportedModel, export
from barlowctl.methods import Method
from barlowctl.methods.momentum import MovingAverage
from barlowctl.recipe import load, objectives
from barlowctl.recipe.schema import Recipe

NARROW = ["model.backbone=resnet10t", "model.backbone_args={channels=[4,8,8,8], stem_width=4}", "model.stem=default"]
SIZES = ["views.size=32", "eval.resize=32", "eval.crop=32", "train.batch_size=16", "model.projector=[12,6]"]
SMALL_QUEUES = {"moco": ["objective.queue=64"], "moco-v2": ["objective.queue=64"]}
CONTEXT = Context(images=40, classes=3)


def tiny(name: str = "barlow-twins", *overrides: str, seed: int = 0) -> Recipe:
    keys = [f"objective.name={name}", *SMALL_QUEUES.get(name, [])]
    return load.load("quickstart", [*NARROW, *SIZES, *keys, f"seed={seed}", *overrides])


def exported(method: Method, recipe: Recipe, path: Path, format: str = "timm") -> Path:
    model = ExportedModel(
        backbone=method.backbone.eval(),
        architecture=recipe.model.backbone,
        timm_args=recipe.model.backbone_args,
        stem=recipe.model.stem,
        preprocessing=preprocessing_of(recipe),
        projector=method.heads().get("projector"),
        provenance={"recipe": recipe.name, "method": recipe.objective.name, "run": "earlier"},
    )
    export(model, path, format, with_projector=model.projector is not None)
    return path


def started(recipe: Recipe, weights: Path | str, *overrides: str) -> tuple[Recipe, Method, dict[str, Any]]:
    """The recipe that starts from weights, its method, and what is recorded of the start."""
    settled, start = begin(load.override(recipe, [f"init.weights='{weights}'", *overrides]))
    assert start is not None
    method = build_method(settled, CONTEXT)
    start.fill(method)
    return settled, method, start.record()


def overrides_in(advice: str) -> list[str]:
    """The values of the --set flags in the first line of an error's advice."""
    return [flag for flag in shlex.split(advice.splitlines()[0]) if "=" in flag]


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Method]:
    """An export of Barlow Twins with its projector, and what was exported."""
    recipe = tiny(seed=7)
    method = build_method(recipe, CONTEXT)
    return exported(method, recipe, tmp_path_factory.mktemp("earlier") / "earlier.safetensors"), method


@pytest.mark.parametrize("name", objectives.METHODS)
def test_every_method_starts_from_a_backbone_and_its_copies_follow_it(name: str, earlier: tuple[Path, Method]) -> None:
    path, method = earlier
    recipe = tiny(name)
    _, filled, record = started(recipe, path)
    assert same(filled.backbone.state_dict(), method.backbone.state_dict())
    fresh = build_method(recipe, CONTEXT)
    for head, module in filled.heads().items():
        own = name == "barlow-twins" and head == "projector"
        expected = method.heads()["projector"] if own else fresh.heads()[head]
        assert same(module.state_dict(), expected.state_dict()), head
        assert (record["heads"][head] == "taken") == own
    for part in filled.modules():
        if isinstance(part, MovingAverage):
            assert same(part.networks[0].state_dict(), filled.backbone.state_dict())
            assert same(part.networks[1].state_dict(), filled.heads()["projector"].state_dict())


@pytest.mark.parametrize("name", ["byol", "moco-v2", "simclr"])
def test_heads_of_the_same_method_are_taken_and_copies_begin_as_they(name: str, tmp_path: Path) -> None:
    recipe = tiny(name, seed=7)
    method = build_method(recipe, CONTEXT)
    path = exported(method, recipe, tmp_path / "model", "hub")
    _, filled, record = started(tiny(name), path)
    assert same(filled.heads()["projector"].state_dict(), method.heads()["projector"].state_dict())
    assert record["heads"]["projector"] == "taken"
    for part in filled.modules():
        if isinstance(part, MovingAverage):
            assert same(part.networks[1].state_dict(), method.heads()["projector"].state_dict())


def test_heads_of_other_widths_are_fresh_and_said(earlier: tuple[Path, Method]) -> None:
    _, _, record = started(tiny("barlow-twins", "model.projector=[12,8]"), earlier[0])
    assert "instead of" in record["heads"]["projector"]
    _, _, record = started(tiny(), earlier[0], "init.heads=false")
    assert record["heads"]["projector"] == "init.heads is false"


@pytest.mark.parametrize("format", ["timm", "torchvision", "hub"])
def test_every_format_that_is_exported_is_a_way_in(format: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    arguments: dict[str, Any] = {} if format == "torchvision" else {"channels": [8, 8, 16, 16]}
    backbone = build_backbone("resnet18", in_chans=3, **arguments)
    recipe = load.load("resnet50", ["model.backbone=resnet18", "model.projector=[8,8]"])
    model = ExportedModel(
        backbone=backbone.eval(), architecture="resnet18", timm_args=arguments, stem="default",
        preprocessing=preprocessing_of(recipe), provenance={"method": "barlow-twins", "run": "earlier"},
    )  # fmt: skip
    report = export(model, tmp_path / "exported", format, zero_classifier=format == "torchvision")
    weights = read_weights(str(report.path))
    assert weights.kind == "export"
    assert weights.network is not None
    assert weights.network.architecture == "resnet18"
    assert weights.source["run"] == "earlier"
    assert same(weights.backbone, backbone.state_dict())


def test_exports_written_by_earlier_versions_are_ways_in() -> None:
    folder = Path(__file__).parents[1] / "exports" / "written_before"
    for path in (folder / "backbone.safetensors", folder / "hub"):
        weights = read_weights(str(path))
        assert weights.kind == "export"
        assert weights.network is not None
        assert weights.backbone


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model", "teacher"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_state_dicts_are_ways_in(suffix: str, wrapped: str | None, tmp_path: Path) -> None:
    method = build_method(tiny(seed=7), CONTEXT)
    state = {f"module.{key}": value.contiguous() for key, value in method.backbone.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        beside = {"epoch": 3, "optimizer": {"state": {}}, "student": {"a": torch.zeros(1)}}
        torch.save({**beside, wrapped: state} if wrapped else state, path)
    else:
        save_file(state, path)
    settled, filled, record = started(tiny(), path)
    assert same(filled.backbone.state_dict(), method.backbone.state_dict())
    assert (record["kind"], record["within"]) == ("state dict", "module.")
    assert settled.views.mean == tiny().views.mean
    assert "the weights do not say theirs" in record["normalization"]


def test_a_checkpoint_that_keeps_its_options_is_a_way_in(tmp_path: Path) -> None:
    """As timm's and DINO's trainings write theirs."""
    method = build_method(tiny(seed=7), CONTEXT)
    args = argparse.Namespace(lr=0.1, betas=(0.9, 0.99), output="out", nested=argparse.Namespace(a=None))
    torch.save({"arch": "x", "args": args, "state_dict": method.backbone.state_dict()}, tmp_path / "last.pth.tar")
    _, filled, _ = started(tiny(), tmp_path / "last.pth.tar")
    assert same(filled.backbone.state_dict(), method.backbone.state_dict())


def test_the_authors_checkpoint_gives_its_projector_too(tmp_path: Path) -> None:
    recipe = load.load("resnet50", ["model.backbone=resnet18", "model.projector=[16,16]", "seed=7"])
    method = build_method(recipe)
    parts = {"backbone": method.backbone, "projector": method.heads()["projector"]}
    state = {f"module.{name}.{key}": v for name, part in parts.items() for key, v in part.state_dict().items()}
    bn = {f"module.bn.{key}": torch.zeros(16) for key in ("running_mean", "running_var")}
    torch.save({"epoch": 1000, "model": {**state, **bn}, "optimizer": {}}, tmp_path / "checkpoint.pth")
    _, filled, record = started(load.override(recipe, ["seed=0"]), tmp_path / "checkpoint.pth")
    assert same(filled.state_dict(), method.state_dict())
    assert (record["kind"], record["source"]["epochs"]) == ("authors' checkpoint", "1000")
    assert record["heads"] == {"projector": "taken"}


def test_timms_published_weights_are_a_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    published = build_method(tiny("barlow-twins", seed=7)).backbone
    published.pretrained_cfg = {**published.pretrained_cfg, "mean": (0.5,) * 3, "std": (0.25,) * 3}  # type: ignore
    monkeypatch.setattr("barlowctl.assemble.published.timm.create_model", lambda *args, **keys: published)
    monkeypatch.setattr("barlowctl.assemble.published.untrained", lambda *args, **keys: published)
    monkeypatch.setattr("barlowctl.assemble.weights.untrained", lambda *args, **keys: published)
    settled, filled, record = started(tiny(), "resnet10t")
    assert same(filled.backbone.state_dict(), published.state_dict())
    assert record["source"] == {"timm": "resnet10t.c3_in1k"}
    assert (settled.views.mean, settled.views.std) == ((0.5,), (0.25,))


def test_the_input_is_normalised_as_the_weights_say_unless_the_recipe_says_otherwise(
    earlier: tuple[Path, Method],
) -> None:
    path = earlier[0]
    own = tiny("barlow-twins", "views.mean=[0.4]", "views.std=[0.2]")
    settled, _, record = started(own, path)
    assert (settled.views.mean, settled.views.std) == (tiny().views.mean, tiny().views.std)
    assert "of the weights, not the recipe's mean (0.4), std (0.2)" in record["normalization"]
    settled, _, record = started(own, path, "init.normalization=recipe")
    assert settled.views.mean == (0.4,)
    settled, _, record = started(tiny(), path, "views.mean=[0.4]")  # said in so many words
    assert settled.views.mean == (0.4,)
    colour = ["data.channels=3", "views.mean=[0.4,0.4,0.4]", "views.std=[0.2,0.2,0.2]"]
    settled, _, record = started(tiny("barlow-twins", *colour), path)
    assert settled.views.mean == tiny().views.mean * 3
    assert "conv1.0.weight" in record["reshaped"]
    assert "channels" not in record["normalization"]


def test_the_weights_are_known_by_what_they_are_and_not_by_their_file(
    earlier: tuple[Path, Method], tmp_path: Path
) -> None:
    path, method = earlier
    settled, _, record = started(tiny(), path)
    assert settled.init.sha256 == record["sha256"] == read_weights(str(path)).sha256
    again = exported(method, tiny(seed=7), tmp_path / "elsewhere", "hub")
    assert read_weights(str(again)).sha256 == record["sha256"]
    started(tiny(), again, f"init.sha256={record['sha256']}")
    weights = load_file(path)
    weights["bn1.bias"] += 1.0
    save_file(weights, tmp_path / "changed.safetensors")
    with pytest.raises(UserError, match="other weights than the recipe says") as caught:
        started(tiny(), tmp_path / "changed.safetensors", f"init.sha256={record['sha256']}")
    assert "--set init.sha256=" in str(caught.value.next)


def test_half_a_match_is_refused_unless_it_is_asked_for(earlier: tuple[Path, Method]) -> None:
    deeper = tiny("barlow-twins", "model.backbone_args={channels=[4,8,8,8], stem_width=4, layers=[1,2,1,1]}")
    with pytest.raises(UserError, match=r"lacks layer2\.1.*90 of the network's 102 tensors fit") as caught:
        started(deeper, earlier[0])
    lines = str(caught.value.next).splitlines()
    assert "model.backbone=resnet10t" in lines[0]
    assert lines[1] == "--set init.partial=true"
    _, filled, record = started(deeper, earlier[0], "init.partial=true")
    assert torch.equal(filled.backbone.state_dict()["bn1.weight"], earlier[1].backbone.state_dict()["bn1.weight"])
    assert all(key.startswith("layer2.1.") for key in record["fresh"])


def test_weights_of_another_network_are_refused_with_what_makes_the_recipe_fit(earlier: tuple[Path, Method]) -> None:
    with pytest.raises(UserError, match="does not fit the recipe's network, resnet26") as caught:
        started(load.load("quickstart"), earlier[0])
    settled, _, _ = started(load.load("quickstart", overrides_in(str(caught.value.next))), earlier[0])
    assert settled.model.backbone == "resnet10t"


def test_weights_of_another_network_are_refused_before_a_step_is_timed(
    earlier: tuple[Path, Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps take seconds, and a minute where their kernels are not compiled yet."""
    monkeypatch.setattr(processor, "flags", frozenset)  # bf16 or fp32 is measured on any CPU
    monkeypatch.setattr(SyntheticSteps, "take", lambda *_: pytest.fail("a step is timed"))
    other = load.load("quickstart", ["train.precision=bf16", f"init.weights='{earlier[0]}'"])
    with pytest.raises(UserError, match="does not fit the recipe's network, resnet26"):
        plan(other, Runtime("cpu"))


def test_the_network_is_that_of_the_weights_where_the_recipe_says_so(earlier: tuple[Path, Method]) -> None:
    """Recipe `adapt` does; a network that is named beside it is the user's word."""
    other = load.load("quickstart", ["init.network=weights", "model.drop_path=0.1", "model.projector=[12,6]"])
    settled, method, record = started(other, earlier[0])
    assert (settled.model.backbone, settled.model.stem) == ("resnet10t", "default")
    assert settled.model.backbone_args == tiny().model.backbone_args
    assert (settled.model.drop_path, settled.model.projector) == (0.1, (12, 6))  # those are the training's
    assert record["fresh"] == []
    assert same(method.backbone.state_dict(), earlier[1].backbone.state_dict())
    with pytest.raises(UserError, match="does not fit the recipe's network, resnet26"):
        started(other, earlier[0], "model.backbone=resnet26")
    assert load.as_begun(load.override(other, [f"init.weights='{earlier[0]}'"]), settled) == settled


def test_image_size_and_pooling_are_the_recipes_on_the_network_of_the_weights(tmp_path: Path) -> None:
    """Of timm's folder, which has sides as pairs and may have arguments that say nothing."""
    keys = {"embed_dim": 12, "depth": 1, "num_heads": 2, "patch_size": (16, 16)}
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, **keys)  # type: ignore[arg-type]
    torch.nn.init.normal_(network.state_dict()["norm.weight"])
    save_for_hf(network, tmp_path / "vit", model_args={**keys, "img_size": [64, 64], "act_layer": None})
    sizes = ["views.size=32", "eval.crop=32", "eval.resize=32", "model.image_size=32"]
    settled, _, record = started(load.load("adapt", [*sizes, "model.projector=[8]"]), tmp_path / "vit")
    assert (settled.model.backbone, settled.model.image_size) == ("vit_tiny_patch16_224", 32)
    assert settled.model.backbone_args == {**keys, "patch_size": 16, "global_pool": "token"}
    assert record["reshaped"] == {"pos_embed": [[1, 17, 12], [1, 5, 12]]}
    assert load.parse(load.dump(settled)) == settled
    assert (
        load.as_begun(
            load.load("adapt", [*sizes, "model.projector=[8]", f"init.weights='{tmp_path / 'vit'}'"]), settled
        )
        == settled
    )
    mean = load.load("adapt", [*sizes, "model.projector=[8]", "model.pooling=avg"])
    _, filled, record = started(mean, tmp_path / "vit")
    assert (record["renamed"], record["fresh"]) == ({"fc_norm": "norm"}, [])
    assert torch.equal(filled.backbone.state_dict()["fc_norm.weight"], network.state_dict()["norm.weight"])
    other = load.load("resnet50", ["model.backbone=resnet18", "model.drop_path=0.1"])
    with pytest.raises(UserError, match="it is vit_tiny_patch16_224") as caught:
        started(other, tmp_path / "vit")
    settled, _, _ = started(load.override(other, overrides_in(str(caught.value.next))), tmp_path / "vit")
    assert settled.model.image_size == 64


def test_a_file_that_does_not_say_its_network_is_the_recipes(earlier: tuple[Path, Method], tmp_path: Path) -> None:
    torch.save(earlier[1].backbone.state_dict(), tmp_path / "a.pth")
    settled, _, _ = started(tiny("barlow-twins", "init.network=weights"), tmp_path / "a.pth")
    assert settled.model == tiny().model


def test_nothing_in_common_is_refused_even_in_part(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="none of its keys"):
        started(tiny(), tmp_path / "a.pth", "init.partial=true")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.pth", None, "does not exist"),
        ("folder/gone.safetensors", None, "does not exist"),
        ("/dev/null", None, "is no file or folder"),
        ("empty.pth", b"", "the file is empty"),
        ("page.pth", b"<html>", "it is a web page"),
        ("cut.safetensors", b"1234", "cannot be read"),
        ("notes.txt", b"hello there", "it is no file of torch.save"),
        ("a.gguf", b"GGUF\3\0\0\0", "it is a GGUF file of quantized weights"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "it is an HDF5 file, as Keras writes them"),
        ("a.npy", b"\x93NUMPY\1\0", "it is an array of NumPy"),
        ("a.onnx", b"\x08\x08\x12\x07pytorch", "is an ONNX file, whose layers are joined"),
        ("a.pth.gz", b"\x1f\x8b\x08\0", "it is compressed by gzip"),
        ("index.json", b'{"weight_map": {}}', "it is JSON text, which may name the files"),
        ("https://example.org/weights.pth", None, "is an address"),
        ("hf-hub:somebody/something", None, "could not be had"),
        ("resnet5000", None, "neither a run, a path nor a timm model"),
        ("resnet18.nobody_in1k", None, "timm has no weights 'nobody_in1k'"),
    ],
)
def test_what_is_no_weights_is_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    path: Path | str = tmp_path / name if "." in name and "nobody" not in name and ":" not in name else name
    if content is not None:
        Path(path).write_bytes(content)
    with pytest.raises(UserError, match=message):
        started(tiny(), path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["archive/archive_format", "archive/models/model.json"], "it is a program of torch.export"),
        (["a/data.pkl", "a/constants.pkl", "a/code/x.py"], "it is a TorchScript program"),
        (["config.json", "model.weights.h5"], "it is a model of Keras"),
        (["weight.npy"], "it is an archive of NumPy's arrays"),
        (["my-model/config.json", "my-model/model.safetensors"], "can be named once it is unpacked"),
        (["a/data.pkl"], "cannot be read as weights: "),
    ],
)
def test_an_archive_is_called_what_it_is(members: list[str], message: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "weights.pt", "w") as archive:
        for name in members:
            archive.writestr(name, "")
    with pytest.raises(UserError, match=message) as refused:
        started(tiny(), tmp_path / "weights.pt")
    assert ".safetensors" in str(refused.value.allowed)
    assert ("no file of torch.save" in refused.value.message) == (members != ["a/data.pkl"])


def test_a_training_without_weights_is_named_by_what_it_holds(tmp_path: Path) -> None:
    """Lightning's checkpoints have `state_dict`; what others save beside them has not."""
    torch.save({"epoch": 3, "hyper_parameters": {}, "callbacks": {}}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="holds a dictionary of epoch, hyper_parameters, callbacks, and no weights"):
        started(tiny(), tmp_path / "last.ckpt")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {"conv1.0.weight": torch.zeros(1)}, "x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="code and not weights, and is not run"):
        started(tiny(), tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_folders_that_are_no_model_are_refused_with_what_is_in_them(
    earlier: tuple[Path, Method], tmp_path: Path
) -> None:
    shutil.copy(earlier[0], tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"neither a run .* nor a model .* it has model\.safetensors"):
        started(tiny(), tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(UserError, match="no counterpart in timm"):
        started(tiny(), tmp_path)


def test_a_projector_alone_and_weights_that_are_not_numbers_are_refused(
    earlier: tuple[Path, Method], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="the projector alone"):
        started(tiny(), earlier[0].with_suffix(".projector.safetensors"))
    weights = load_file(earlier[0])
    weights["bn1.bias"][0] = float("nan")
    save_file(weights, tmp_path / "diverged.safetensors")
    with pytest.raises(UserError, match=r"bn1\.bias has values that are infinite or not a number"):
        started(tiny(), tmp_path / "diverged.safetensors")


def test_bounds_that_layers_clip_by_may_be_infinite_but_are_numbers() -> None:
    """Gemma's vision transformer has them until a training sets them."""
    weights = Weights("gemma", "state dict", {"q_proj.input_max": torch.tensor(float("inf")), "bias": torch.zeros(2)})
    weights.check_finite()
    for name, value in (("q_proj.input_max", float("nan")), ("logit_scale", float("inf"))):
        with pytest.raises(UserError, match=f"{name} has values"):
            Weights("gemma", "state dict", {name: torch.tensor(value)}).check_finite()


def test_ranks_that_read_different_weights_do_not_start(earlier: tuple[Path, Method]) -> None:
    class TwoRanks(Ranks):
        def objects(self, value: Any) -> list[Any]:
            return [value, "of another file"]

    recipe = load.override(tiny(), [f"init.weights='{earlier[0]}'"])
    with pytest.raises(UserError, match="is not the same on all 2 ranks"):
        begin(recipe, TwoRanks(rank=0, size=2))


def test_a_file_without_a_suffix_is_read_by_its_content(tmp_path: Path) -> None:
    state = build_method(tiny(seed=7), CONTEXT).backbone.state_dict()
    torch.save(state, tmp_path / "saved")
    save_file(state, tmp_path / "safe")
    one, other = (read_weights(str(tmp_path / name)) for name in ("saved", "safe"))
    assert same(one.backbone, other.backbone)
    assert one.sha256 == other.sha256


def test_the_network_of_a_plain_state_dict_is_recognised(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"the recipe's network, resnet34: it is resnet18\.") as caught:
        started(load.load("resnet50", ["model.backbone=resnet34", "model.projector=[8,8]"]), tmp_path / "resnet18.pth")
    assert "--set model.backbone=resnet18" in str(caught.value.next).splitlines()[0]


@pytest.mark.parametrize(("side", "name"), [(16, "vit_tiny_patch16_224"), (8, None)])
def test_patches_of_another_size_are_another_network(
    side: int, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though timm would resample them, and position embeddings for images of another size are no difference."""
    monkeypatch.setattr(misfit, "KNOWN_NETWORKS", {("cls_token",): ("vit_tiny_patch16_224",)})
    with torch.device("meta"):
        shapes = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64, patch_size=side).state_dict()
    torch.save({key: torch.zeros(value.shape) for key, value in shapes.items()}, tmp_path / "vit.pth")
    network = misfit.recognised(read_weights(str(tmp_path / "vit.pth")))
    assert (network.architecture if network else None) == name


def test_every_network_that_is_recognised_is_named_by_its_keys() -> None:
    for parts, names in misfit.KNOWN_NETWORKS.items():
        with torch.device("meta"):
            keys = timm.create_model(names[-1], num_classes=0).state_dict()
        assert any(part in key for part in parts for key in keys), names


def test_a_name_that_a_run_and_a_model_share_is_said_where_the_model_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARLOWCTL_RUNS", str(tmp_path))
    (tmp_path / "resnet18").mkdir()
    (tmp_path / "resnet18" / "recipe.toml").touch()
    with pytest.raises(UserError, match=r"could not be had.*the run of that name is .*resnet18"):
        read_weights("resnet18")


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ((), None),
        (("other.pth",), "other.pth"),
        (("a.pth", "net.safetensors", "net.projector.safetensors"), "net.safetensors"),
        (("recipe.toml", "net.safetensors"), ""),
    ],
)
def test_a_graph_of_another_runtime_leads_to_weights_near_it(
    tmp_path: Path, files: tuple[str, ...], named: str | None
) -> None:
    """Its own name first, a projector never; in a run's directory to the run. It led to naming another file."""
    for file in ("net.onnx", *files):
        (tmp_path / file).touch()
    with pytest.raises(UserError, match=r"net\.onnx' is an ONNX file, whose layers are joined") as refused:
        read_weights(str(tmp_path / "net.onnx"))
    near = tmp_path / named if named else tmp_path
    assert refused.value.next == ("barlowctl runs list" if named is None else f"--init {near}")
