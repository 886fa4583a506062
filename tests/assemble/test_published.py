"""Published weights where there is no network: the line that is advised makes a folder that every command takes."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf

from barlowctl.assemble.published import published
from barlowctl.assemble.weights import read_weights
from barlowctl.errors import UserError
from barlowctl.measure.subjects import open_subject
from tests.exports.hub_stand_in import Hub, Repository, hub_stand_in, use

WEIGHTS = "resnet10t.c3_in1k"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A stand-in of the Hub with one model of timm's, of random weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_for_hf(timm.create_model("resnet10t"), folder, safe_serialization=True)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    with hub_stand_in() as hub:
        hub.repositories[f"timm/{WEIGHTS}"] = Repository(private=False, files=files)
        yield hub


def no_network(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(-3, "Temporary failure in name resolution")


@pytest.mark.parametrize("name", [WEIGHTS, "resnet10t", f"hf-hub:timm/{WEIGHTS}", f"hf_hub:timm/{WEIGHTS}@main"])
def test_the_line_that_is_advised_without_a_network_makes_a_folder_that_is_taken_by_its_name(
    name: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(hub, monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as offline:
        offline.setattr(socket, "getaddrinfo", no_network)
        with pytest.raises(UserError, match="could not be had: there is no network here") as caught:
            read_weights(name)
    assert f"makes the folder {WEIGHTS}" in str(caught.value.allowed)
    words = shlex.split(str(caught.value.next))
    assert words[0] == "hf"
    subprocess.run([sys.executable, "-m", "huggingface_hub.cli.hf", *words[1:]], check=True, capture_output=True)
    weights, subject = read_weights(WEIGHTS), open_subject(WEIGHTS)
    assert weights.backbone["conv1.0.weight"].equal(subject.backbone.state_dict()["conv1.0.weight"])
    assert subject.name == WEIGHTS  # the name of a folder has no suffix to lose


def test_with_a_network_the_weights_are_had_by_their_name(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(hub, monkeypatch, tmp_path / "cache")
    assert published(WEIGHTS, allowed="").get_parameter("conv1.0.weight").shape == (24, 3, 3, 3)


@pytest.mark.parametrize("name", [f"timm/{WEIGHTS}", "somebody/photos"])
def test_a_name_on_the_hub_is_measured(name: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of timm's own, or one that somebody pushed; and the same network with weights of its own draw."""
    hub.repositories.setdefault(name, hub.repositories[f"timm/{WEIGHTS}"])
    use(hub, monkeypatch, tmp_path / "cache")
    subject = open_subject(f"hf-hub:{name}")
    weights = read_weights(f"hf-hub:{name}").backbone["conv1.0.weight"]
    assert subject.backbone.state_dict()["conv1.0.weight"].equal(weights)
    assert subject.kind == "timm"
    assert subject.untrained is not None
    fresh = subject.untrained().state_dict()
    assert {key: value.shape for key, value in fresh.items()} == {
        key: value.shape for key, value in subject.backbone.state_dict().items()
    }
    assert not fresh["conv1.0.weight"].equal(weights)


def test_weights_that_are_not_on_the_hub_have_the_line_that_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GC ViT's, which timm has from elsewhere."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(UserError, match=r"the weights of gcvit_xxtiny\.in1k could not be had") as caught:
        published("gcvit_xxtiny.in1k", allowed="")
    assert 'timm.create_model("gcvit_xxtiny.in1k", pretrained=True)' in str(caught.value.next)
