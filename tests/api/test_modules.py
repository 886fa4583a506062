"""A module that a program has in hand: features and measurements of it, as of what is named."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import barlowctl
from barlowctl.api.network import Network
from barlowctl.generators import own_generator

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
STATED: dict[str, Any] = {"mean": MEAN, "std": STD, "size": 32}


class Own(nn.Module):
    """Images to features, in somebody's own words."""

    def __init__(self) -> None:
        super().__init__()
        with own_generator(0):
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images).mean((2, 3))


@pytest.fixture
def pixels() -> np.ndarray:
    """Four images of 32 x 32 pixels: nothing is left to resize."""
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def normalized(pixels: np.ndarray, mean: Any = MEAN, std: Any = STD) -> Tensor:
    scaled = (pixels.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def test_features_of_a_module_are_its_own_of_normalized_pixels(pixels: np.ndarray) -> None:
    module = Own().train()
    before = copy.deepcopy(module.state_dict())
    expected = copy.deepcopy(module).double().eval()(normalized(pixels)).detach()
    features = barlowctl.features(module, pixels, **STATED)
    np.testing.assert_allclose(np.asarray(features), expected, rtol=1e-4, atol=1e-5)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    network = barlowctl.open_network(module, overrides={"views.interpolation": "bilinear"}, **STATED)
    assert (network.preprocessing.resize, network.preprocessing.crop) == (32, 32)
    assert network.preprocessing.interpolation == "bilinear"
    with torch.no_grad():
        module.body[0].weight.zero_()  # trained further: the network stays what was opened
    np.testing.assert_allclose(np.asarray(network.features(pixels)), expected, rtol=1e-4, atol=1e-5)


def test_a_larger_resize_is_an_override(pixels: np.ndarray) -> None:
    network = barlowctl.open_network(Own(), overrides={"eval.resize": 40}, **STATED)
    assert (network.preprocessing.resize, network.preprocessing.crop) == (40, 32)
    features = network.features(np.repeat(np.repeat(pixels[:, 4:24, 4:24], 2, axis=1), 2, axis=2))
    assert features.features.shape == (4, 8)


def test_a_network_of_timm_says_how_images_are_shown_to_it(pixels: np.ndarray) -> None:
    module = timm.create_model("resnet10t", num_classes=7)
    network = barlowctl.open_network(module)
    assert network.notes == ("its classifier of 7 classes is left out",)
    assert (network.name, network.preprocessing.crop, network.preprocessing.resize) == ("resnet10t", 176, 201)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert (network.preprocessing.mean, network.preprocessing.std) == (mean, std)
    own = copy.deepcopy(module).double().eval()
    expected = own.forward_head(own.forward_features(normalized(pixels, mean, std)), pre_logits=True).detach()
    features = barlowctl.features(module, pixels, size=32)
    np.testing.assert_allclose(np.asarray(features), expected, rtol=1e-3, atol=1e-4)
    assert module.num_classes == 7


@pytest.mark.parametrize(
    ("name", "place", "width"),
    [
        ("resnet18", "fc", 512),
        ("mobilenet_v3_small", "classifier.3", 1024),
        ("VisionTransformer", "heads.head", 48),
        ("squeezenet1_1", "classifier.1", 512),
    ],
)
def test_the_classifier_of_torchvision_is_left_out(name: str, place: str, width: int) -> None:
    sizes = {"image_size": 64, "patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 48, "mlp_dim": 96}
    arguments = sizes if name == "VisionTransformer" else {}
    module = getattr(torchvision.models, name)(num_classes=5, **arguments).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = barlowctl.open_network(module, mean=MEAN, std=STD, size=64)
    assert network.notes == ("its classifier of 5 classes is left out",)
    inputs = list[Tensor]()
    layer = module.get_submodule(place)
    layer.register_forward_hook(lambda layer, given, output: inputs.append(given[0].detach()))
    module(images)
    before = inputs[0] if inputs[0].ndim == 2 else inputs[0].relu().mean((2, 3))
    np.testing.assert_allclose(np.asarray(network.features(images)), before, rtol=1e-3, atol=1e-4)
    assert before.shape == (2, width)


def test_a_loop_of_ones_own_trains_no_classifier_of_torchvision() -> None:
    with pytest.raises(barlowctl.UserError, match="ends in a classifier of 1,000 classes") as refused:
        barlowctl.build_method("resnet50", backbone=torchvision.models.resnet18())
    assert refused.value.__notes__ == ["allowed: one of features: backbone.fc = torch.nn.Identity()"]
    with pytest.raises(barlowctl.UserError, match="ends in a classifier") as refused:
        barlowctl.build_method("resnet50", backbone=torchvision.models.mobilenet_v3_small())
    assert refused.value.__notes__ == ["allowed: one of features: backbone.classifier[3] = torch.nn.Identity()"]


def test_a_probe_of_a_module_has_the_runs_numbers(trained: Path, recipe: Path, tmp_path: Path) -> None:
    run = barlowctl.load(trained)
    own = run.preprocessing
    overrides = {"eval.resize": own.resize, "eval.crop": own.crop}
    network = Network(run.backbone(), mean=own.mean, std=own.std, overrides=overrides)
    theirs, ours = run.probe("digits", out=tmp_path / "run"), barlowctl.probe(network, "digits")
    assert (ours.knn, ours.linear) == (theirs.knn, theirs.linear)
    assert ours.values["kind"] == "module"
    assert ours.file == tmp_path / "runs" / "probes" / "resnet10t" / "probe-digits.json"
    with pytest.raises(barlowctl.UserError, match="nothing says how to build resnet10t, a module, with fresh weights"):
        barlowctl.probe(network, "digits", baselines=["random-init"])


def test_a_module_is_fine_tuned_in_a_copy(recipe: Path, tmp_path: Path) -> None:
    with own_generator(0):
        module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = copy.deepcopy(module.state_dict())
    probed = barlowctl.probe(
        module, "digits", mean=[0.3], std=[0.3], size=16, measures=[], trained=["finetune"],
        overrides={"epochs": 1, "batch_size": 64},
    )  # fmt: skip
    assert probed.values["finetune"]["settings"]["epochs"] == 1
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


class Dictionary(nn.Module):
    """As models of transformers give what they have."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"features": images.mean((2, 3))}


class Uncopied(Own):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("there is but one of me")


class Broken(Own):
    def forward(self, images: Tensor) -> Tensor:
        raise ValueError("mine")


@pytest.mark.parametrize(
    ("module", "stated", "message"),
    [
        (Own(), {}, "an Own does not say how an image becomes its input: there is no mean, std, size"),
        (Own(), {"size": 32}, "an Own does not say how an image becomes its input: there is no mean, std"),
        (Own(), {**STATED, "mean": [0.5]}, "mean has 1 numbers and std has 3"),
        (Own(), {**STATED, "mean": [0.5], "std": [0.5]}, r"an Own does not take images of shape \(2, 1, 32, 32\)"),
        (timm.create_model("resnet10t", in_chans=1), {}, r"a ResNet does not take images of shape \(2, 3, 176, 176\)"),
        (Dictionary(), STATED, "the backbone returned dict for 2 images"),
        (nn.Conv2d(3, 4, 3), STATED, r"the backbone returned \(2, 4, 30, 30\) for 2 images"),
        (Broken(), STATED, r"a Broken does not take .*: ValueError: mine, at `raise .*` in test_modules\.py, line \d+"),
        (nn.LazyConv2d(4, 3), STATED, "LazyConv2d has parameters without a shape: weight, bias"),
        (Uncopied(), STATED, "an Uncopied cannot be copied: RuntimeError: there is but one of me"),
    ],
)
def test_what_cannot_be_measured_is_refused(module: nn.Module, stated: dict[str, Any], message: str) -> None:
    with pytest.raises(barlowctl.UserError, match=f"^{message}") as refused:
        barlowctl.features(module, np.zeros((2, 32, 32, 3), np.uint8), **stated)
    assert refused.value.__notes__[0].startswith("allowed: ")


def test_statistics_are_said_where_a_network_is_opened(trained: Path) -> None:
    network = barlowctl.open_network(Own(), **STATED)
    with pytest.raises(barlowctl.UserError, match=r"^mean and a network that is open"):
        barlowctl.features(network, [], mean=[0.5])
    with pytest.raises(barlowctl.UserError, match=r"'views\.mean' is what the network says itself"):
        barlowctl.open_network(trained, mean=[0.5])
    assert repr(network) == "Network(model)"


class Infinite(Own):
    """Of pixels above 0 the features are infinite."""

    def forward(self, images: Tensor) -> Tensor:
        return 1 / (1 - images.mean((2, 3)).ceil().clamp(0, 1))


def test_features_that_are_not_finite_are_said() -> None:
    images = np.zeros((5, 32, 32, 3), np.uint8)
    images[1] = 255
    stated = {**STATED, "mean": [0.0, 0.0, 0.0]}
    note = "the features of 1 of 5 images contain NaN or infinity (images[1])"
    assert note in barlowctl.features(Infinite(), images, **stated).notes
    assert barlowctl.features(Infinite(), torch.from_numpy(images / 255).movedim(3, 1), **stated).notes == (note,)
    assert not any("NaN" in note for note in barlowctl.features(Infinite(), images[2:], **stated).notes)


def test_features_are_a_matrix_for_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    images = np.zeros((4, 32, 32, 3), np.uint8)
    images[2:] = 255
    embeddings = barlowctl.features(Own(), (images, [0, 0, 1, 1]), **STATED)
    assert embeddings.shape == (4, 8)
    assert LogisticRegression().fit(embeddings, embeddings.labels).score(embeddings, embeddings.labels) == 1.0


def test_how_images_are_shown_is_said_in_the_same_call(recipe: Path, trained: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
    larger = {"eval.resize": 40}
    features = barlowctl.features(Own(), images, **STATED, overrides=larger)
    opened = barlowctl.open_network(Own(), **STATED, overrides={"eval": {"resize": 40}})
    assert np.array_equal(features, opened.features(images))
    assert not np.array_equal(features, barlowctl.features(Own(), images, **STATED))
    smaller = barlowctl.open_network(trained, overrides={"eval.crop": 12})
    probed = barlowctl.probe(trained, "digits", measures=["knn"], overrides={"eval": {"crop": 12}})
    assert probed.values["knn"] == smaller.probe("digits", measures=["knn"]).values["knn"]
    with pytest.raises(barlowctl.UserError, match="unknown protocol value 'epoch', did you mean 'epochs'"):
        barlowctl.probe(trained, "digits", trained=["linear"], overrides={"eval.crop": 12, "epoch": 1})
    with pytest.raises(barlowctl.UserError, match=r"^'eval\.resize' in overrides: how images are shown is said") as no:
        opened.probe("digits", overrides=larger)
    assert no.value.next == "barlowctl.open_network(model, overrides={'eval.resize': 40}).probe(...)"


def test_images_in_hand_without_labels_are_told_how_they_have_some() -> None:
    images = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(barlowctl.UserError, match="the train images in 'images' have no labels") as refused:
        barlowctl.probe(Own(), {"train": images, "test": images}, **STATED)
    assert str(refused.value.allowed).startswith("a tuple (images, labels)")


def test_a_module_is_no_name() -> None:
    with pytest.raises(barlowctl.UserError, match="a network that was opened of a module, Own, has no name") as refused:
        os.fspath(barlowctl.open_network(Own(), **STATED))
    assert "init=model" in str(refused.value.next)
