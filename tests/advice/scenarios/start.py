"""Weights to start from that are not there, are none, or are of another network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from barlowctl.cli.app import run as barlowctl
from tests.advice.scenario import Scenario
from tests.advice.scenarios.training import TRAIN

Patch = pytest.MonkeyPatch
OTHER_NETWORK = ["--set", "model.backbone_args={channels = [4, 8, 8, 8], stem_width = 8}"]


def exported(patch: Patch) -> None:
    arguments = ["--out", "model/weights.safetensors", "--with-projector", "--quiet"]
    assert barlowctl(["export", "runs/done", *arguments]) == 0


def exported_as_weights_alone(patch: Patch) -> None:
    exported(patch)
    Path("model/weights.projector.safetensors").unlink()


def a_graph(patch: Patch) -> None:
    Path("graph.onnx").write_bytes(b"x")


def a_graph_beside_weights(patch: Patch) -> None:
    exported(patch)
    Path("model/graph.onnx").write_bytes(b"x")


def a_graph_in_a_run(patch: Patch) -> None:
    Path("runs/done/graph.onnx").write_bytes(b"x")


def nothing_in_it(patch: Patch) -> None:
    save_file({}, "nothing.safetensors")


def a_deeper_networks(patch: Patch) -> None:
    """A state dict that says nothing of its network, and has more than the recipe's."""
    from barlowctl.assemble.finished import open_run

    state = open_run(Path("runs/done")).method.backbone.state_dict()
    torch.save({**state, "layer1.1.conv1.weight": torch.zeros(8, 8, 3, 3)}, "deeper.pth")


SCENARIOS = {
    "--init and --resume": Scenario(["pretrain", "--resume", "runs/stopped", "--init", "runs/done", "--threads", "1"]),
    "--init that is not there": Scenario([*TRAIN, "--init", "./gone.safetensors"]),
    "--init of an empty file": Scenario([*TRAIN, "--init", "nothing.safetensors"], nothing_in_it),
    "--init of a folder": Scenario([*TRAIN, "--init", "./taken"]),
    "--init of a folder of weights": Scenario([*TRAIN, "--init", "./model"], exported_as_weights_alone),
    "--init of a graph": Scenario([*TRAIN, "--init", "graph.onnx"], a_graph),
    "--init of a graph beside weights": Scenario([*TRAIN, "--init", "model/graph.onnx"], a_graph_beside_weights),
    "--init of a graph in a run": Scenario([*TRAIN, "--init", "runs/done/graph.onnx"], a_graph_in_a_run),
    "--init of a projector": Scenario([*TRAIN, "--init", "model/weights.projector.safetensors"], exported),
    "--init of a model that nobody published": Scenario([*TRAIN, "--init", "resnet50t"]),
    "--init of no model": Scenario([*TRAIN, "--init", "resnet1001"]),
    "--init of another network": Scenario([*TRAIN, *OTHER_NETWORK, "--init", "runs/done"]),
    "--init of a deeper network": Scenario([*TRAIN, "--init", "deeper.pth"], a_deeper_networks),
    "--init of other weights": Scenario([*TRAIN, "--init", "runs/done", "--set", f"init.sha256={'0' * 64}"]),
}
