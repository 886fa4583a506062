"""A program that uses every public function: it is not run, but `make lint` reads it with strict types."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

import barlowctl
from barlowctl import events
from barlowctl.objective.barlow_twins import LossTerms
from barlowctl.objective.byol import ByolTerms
from barlowctl.objective.simclr import SimCLRTerms
from barlowctl.objective.simsiam import SimSiamTerms
from barlowctl.objective.vicreg import VICRegTerms


def look(event: events.Event) -> None:
    match event:
        case events.RunStarted():
            print(event.run, event.steps)
        case events.StepDone(logged=True):
            print(event.step, event.values["loss"])
        case events.Evaluated():
            print(event.epoch, event.values.get("knn"))
        case _:
            pass


def train() -> barlowctl.Run:
    run = barlowctl.pretrain(
        "mine.toml",
        data=Path("photos"),
        overrides={"train.epochs": 1, "train": {"batch_size": 32}},
        on_event=look,
        stop=lambda: False,
        out=Path("runs/typed"),
        threads=1,
    )
    assert_type(run.finished, bool)
    assert_type(run.recipe.model.backbone, str)
    for event in barlowctl.pretrain_events(run.recipe, data=[Path("photos/a.jpg")]):
        look(event)
    return barlowctl.pretrain(resume=run.best())


def use(run: barlowctl.Run) -> None:
    network = barlowctl.open_network("resnet18.a1_in1k", overrides={"eval.resize": 256})
    for images in ("photos", [Image.new("RGB", (32, 32))], np.zeros((2, 32, 32, 3), np.uint8), torch.zeros(2, 3, 8, 8)):
        embeddings = barlowctl.features(run, images, split="test")
        print(np.asarray(embeddings).shape, embeddings.features.mean(), embeddings.names[0])
    probed = barlowctl.probe(network, "photos", baselines=["random-init"], on_event=look)
    assert_type(probed.knn, float | None)
    print(run.probe(Path("photos")).linear, probed.values, network.features("photos"))
    print(barlowctl.export(run, "hub", "my-model").python_line, run.export("onnx", Path("x.onnx"), precision="fp16"))
    print(barlowctl.export_all(barlowctl.load(), "all", with_projector=True).left_out, run.export_all().reports)
    print(barlowctl.push(run, "me/x", "mit", dry_run=True).card, run.push("me/x", license="mit").commit)
    assert_type(run.method().backbone, nn.Module)
    print(run.backbone(), run.preprocessing.mean, run.metrics[-1]["event"], run.result["loss"])


def use_what_is_in_hand(dataset: Dataset[tuple[Tensor, int]], backbone: nn.Module) -> None:
    packed = barlowctl.pack({"train": dataset, "test": [Image.new("L", (8, 8))]}, "mine", store="raw", overwrite=True)
    assert_type(packed.reports["train"].samples, int)
    assert_type(barlowctl.pack(Path("photos"), "photos", hold_out=20, class_folders="inner"), barlowctl.Packed)
    assert_type(barlowctl.preview("mine.toml", dataset, samples=4), Image.Image)
    run = barlowctl.pretrain("mine.toml", data=dataset, init=backbone)
    print(run.features(dataset), run.probe({"train": dataset, "val": dataset}), run.probe(packed))
    print(barlowctl.export(backbone, "onnx").path, barlowctl.features(backbone, (np.zeros((2, 8, 8)), [0, 1])))


def loop(backbone: nn.Module, projector: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> None:
    method = barlowctl.build_method("mine.toml", backbone=backbone, overrides={"objective.name": "byol"})
    for step, views in enumerate(batches):
        progress = torch.tensor(step / len(batches))
        method.before_step(progress)
        terms = method(views)
        terms.loss.backward()
        for parameter in method.withheld(float(progress)):
            parameter.grad = None
        method.after_step(progress)
        print(terms._asdict())
    z1, z2 = batches[0]
    assert_type(barlowctl.methods.BarlowTwins(backbone, projector)([z1, z2]), LossTerms)
    assert_type(barlowctl.losses.BarlowTwins(lambd=0.0051, form="gram")(z1, z2), LossTerms)
    assert_type(barlowctl.losses.VICReg(form="primal")(z1, z2), VICRegTerms)
    assert_type(barlowctl.losses.SimCLR(temperature=0.2)(z1, z2), SimCLRTerms)
    assert_type(barlowctl.losses.BYOL()(z1, z2, z1, z2), ByolTerms)
    assert_type(barlowctl.losses.SimSiam()(z1, z2, z1, z2), SimSiamTerms)


def errors() -> None:
    try:
        use(train())
    except barlowctl.RunDiverged as diverged:
        print(diverged)
    except barlowctl.RunStopped as stopped:
        print(stopped)
    except barlowctl.UserError as error:
        print(error, error.allowed, error.next)
