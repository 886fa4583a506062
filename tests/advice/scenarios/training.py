"""Runs that are begun: what the recipe, the data and the machine do not allow."""

from __future__ import annotations

import builtins
import importlib
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import torch

from barlowctl import memory
from barlowctl.assemble import plan
from barlowctl.data.images.unreadable import UnreadableImage
from barlowctl.model import Footprint
from tests.advice.scenario import Scenario

Patch = pytest.MonkeyPatch
RECIPE = ["pretrain", "--recipe", "digits.toml"]
TRAIN = [*RECIPE, "--dry-run", "--threads", "1"]
SHORT = ["--set", "train.epochs=1", "--threads", "1", "--set", "eval.every_epochs=0"]
PHOTOS = ["--data", "my images", "--set", "data.holdout=0", "--set", "eval.queries=off", "--set", "data.channels=3",
          "--set", "views.mean=[0.5,0.5,0.5]", "--set", "views.std=[0.5,0.5,0.5]"]  # fmt: skip

GROUPS = [*PHOTOS, "--set", "train.batch_size=2", "--set", "data.holdout=2"]


def once(patch: Patch, target: str, error: BaseException) -> None:
    """The first call of a function fails."""
    *parts, name = target.split(".")
    owner: Any = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], start=2):
        owner = getattr(owner, part, None) or importlib.import_module(".".join(parts[:number]))
    real, failed = getattr(owner, name, getattr(builtins, name, None)), list[bool]()

    def fails(*arguments: object, **options: object) -> object:
        if not failed:
            failed.append(True)
            raise error
        return real(*arguments, **options)

    patch.setattr(owner, name, fails, raising=False)


def later(patch: Patch, calls: int, error: BaseException) -> None:
    """The images of a run fail, once, when so many batches were read."""
    from barlowctl.train import loop

    counted = [0]

    def fails(*arguments: Any) -> Any:
        counted[0] += 1
        if counted[0] == calls:
            raise error
        return next(*arguments)

    patch.setattr(loop, "next", fails, raising=False)


def failing(target: str, error: BaseException) -> Callable[[Patch], None]:
    """What makes the first call of a function fail."""
    return lambda patch: once(patch, target, error)


def nothing_written(patch: Patch) -> None:
    """A disk that has no room for the first record, and none for a checkpoint."""
    for target in ("barlowctl.train.sinks.open", "barlowctl.train.checkpoint._write"):
        failing(target, OSError(28, "No space left on device"))(patch)


def without_a_compiler(patch: Patch) -> None:
    patch.setenv("PATH", "/nowhere")
    patch.delenv("CXX", raising=False)


def compiler_named(patch: Patch) -> None:
    patch.setenv("CXX", "/nowhere/g++")


def compiled_code_nowhere(patch: Patch) -> None:
    """A file where the folder for compiled code is named."""
    Path("a file").touch()
    patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(Path("a file/compiled").absolute()))


def not_to_be_compiled(patch: Patch) -> None:
    """A network that torch cannot compile."""
    from torch._dynamo.exc import TorchRuntimeError

    Path("bin").mkdir()
    Path("bin/g++").write_text("#!/bin/sh\n")
    Path("bin/g++").chmod(0o755)
    patch.setenv("CXX", str(Path("bin/g++").resolve()))

    def fails(*arguments: object, **options: object) -> object:
        raise TorchRuntimeError("a thing that torch does not know")

    patch.setattr(torch, "compile", fails)


def without_names(patch: Patch) -> None:
    """Packed files of a version that kept no names."""
    patch.setattr("barlowctl.data.beton.reader.Beton.has_names", False)


def wandb(patch: Patch) -> None:
    """The package, and nobody is logged in."""

    class Client(types.ModuleType):
        def init(self, **values: object) -> Client:
            import os

            if os.environ.get("WANDB_MODE") != "offline":
                raise RuntimeError("No API key configured.")
            return self

        def log(self, *values: object, **options: object) -> None: ...

        def finish(self) -> None: ...

    client = Client("wandb")
    client.__spec__ = util.spec_from_loader("wandb", None)
    patch.setitem(sys.modules, "wandb", client)
    patch.delenv("WANDB_MODE", raising=False)


def wandb_broken(patch: Patch) -> None:
    Path("broken/wandb").mkdir(parents=True)
    Path("broken/wandb/__init__.py").write_text("raise AttributeError('np.float_ was removed')\n")
    patch.delitem(sys.modules, "wandb", raising=False)
    patch.syspath_prepend("broken")


def place_of_a_stopped_run(patch: Patch) -> None:
    shutil.copytree("runs/stopped", "b")


def a_worker_is_gone(patch: Patch) -> None:
    """A process that reads images is killed, once."""
    from barlowctl.data.loaders import plain

    real, gone = plain._started, list[bool]()

    def killed() -> Iterator[Any]:
        gone.append(True)
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        yield

    patch.setattr(plain, "_started", lambda loader: real(loader) if gone else killed())


def no_toml(patch: Patch) -> None:
    Path("no.toml").write_text("=")


def wrong_toml(patch: Patch) -> None:
    Path("wrong.toml").write_text('name = "wrong"\n[data]\ndataset = "digits"\n[train]\nepoch = 1\n')


def an_empty_home(patch: Patch) -> None:
    patch.setenv("BARLOWCTL_DATA", str(Path("nothing here").resolve()))
    patch.setenv("BARLOWCTL_RUNS", str(Path("no runs here").resolve()))


def little_memory(patch: Patch) -> None:
    """The machine has no memory, until it was refused to draw networks."""
    real, answers = memory.total, [1, 1]
    patch.setattr(memory, "total", lambda: answers.pop() if answers else real())


def large_step(patch: Patch) -> None:
    """The first step that is estimated has activations for which this machine lacks the memory."""
    real, estimates = plan.footprint, [Footprint(0, 0, 0, activations=4 * memory.total())]
    patch.setattr(plan, "footprint", lambda *arguments: estimates.pop() if estimates else real(*arguments))
    patch.setattr(plan, "may_be_too_large", lambda *arguments: bool(estimates))


NO_MEMORY = torch.OutOfMemoryError("Tried to allocate 9 GiB")


def taken_from_another(patch: Patch) -> None:
    Path("mine.toml").write_text('_base_ = "digits.toml"\n[train]\nepochs = 3\n')


SCENARIOS = {
    "a recipe that takes its keys from another": Scenario(
        ["pretrain", "--recipe", "mine.toml", "--dry-run"], taken_from_another
    ),
    "no recipe": Scenario(["pretrain"], then="fashion-mnist"),
    "no such recipe": Scenario(["pretrain", "--recipe", "quickstrt"]),
    "recipe is a folder": Scenario(["recipes", "show", "my images"]),
    "recipe is a device": Scenario(["recipes", "show", "/dev/null"]),
    "recipe cannot be read": Scenario(
        ["recipes", "show", "digits.toml"], failing("barlowctl.recipe.load.read_text", OSError(5, "Input/output error"))
    ),
    "no TOML": Scenario(["recipes", "show", "no.toml"], no_toml),
    "a warm-up that is too long": Scenario(["recipes", "show", "imagenet100-resnet18", "--set", "train.epochs=1"]),
    "statistics of other channels": Scenario(
        ["recipes", "show", "quickstart", "--set", "views.mean=[0.1,0.2,0.3]", "--set", "eval.crop=500"]
    ),
    "no key and value": Scenario(["recipes", "show", "quickstart", "--set", "epochs"]),
    "no section": Scenario(["recipes", "show", "quickstart", "--set", "seed.x=1"]),
    "wrong recipe": Scenario(["recipes", "show", "wrong.toml"], wrong_toml),
    "refused value": Scenario(["recipes", "show", "quickstart", "--set", "views.size=0", "--set", "init.heads=maybe"]),
    "unknown key": Scenario(["recipes", "show", "quickstart", "--set", "train.epoch=1"]),
    "folder not there": Scenario(["recipes", "copy", "quickstart", "new folder/mine.toml"]),
    "recipe copied": Scenario(
        ["recipes", "copy", "digits.toml", "mine.toml"],
        code=0,
        slow=True,
    ),
    "recipes listed": Scenario(["recipes", "list"], code=0, then="fashion-mnist", slow=True),
    "batch larger than the data": Scenario([*TRAIN, *PHOTOS, "--set", "train.batch_size=8"]),
    "last batch of one": Scenario([*TRAIN, *PHOTOS, "--set", "train.batch_size=5", "--set", "data.drop_last=false"]),
    "none held out": Scenario([*TRAIN, *PHOTOS, "--set", "train.batch_size=2", "--set", "eval.queries=holdout"]),
    "none held out of many": Scenario([*TRAIN, "--set", "data.holdout=0", "--set", "eval.linear=true"]),
    "too many held out": Scenario([*TRAIN, *PHOTOS, "--set", "train.batch_size=2", "--set", "data.holdout=5"]),
    "groups of held-out images without a match": Scenario([*TRAIN, *GROUPS, "--set", "data.holdout_groups=patient"]),
    "one group of held-out images": Scenario([*TRAIN, *GROUPS, "--set", "data.holdout_groups=png"]),
    "groups of held-out images of no expression": Scenario([*TRAIN, *GROUPS, "--set", "data.holdout_groups=("]),
    "groups of images without names": Scenario([*TRAIN, "--set", "data.holdout_groups=[0-9]"], without_names),
    "too many held out in groups": Scenario(
        [
            *TRAIN,
            *GROUPS,
            "--set",
            "data.holdout_groups=[0-9]",
            "--set",
            "train.batch_size=4",
            "--set",
            "data.holdout=4",
        ]
    ),
    "pretrained name": Scenario([*TRAIN, "--set", "model.backbone=resnet10t.c3_in1k"]),
    "no such backbone": Scenario([*TRAIN, "--set", "model.backbone=resnet1001"]),
    "stem of another family": Scenario(
        [
            *TRAIN,
            "--set",
            "model.backbone=test_vit",
            "--set",
            "model.stem=cifar",
            "--set",
            "model.backbone_args={img_size=16}",
        ],
    ),
    "a size that the network is not for": Scenario(
        [
            *TRAIN,
            "--set",
            "model.backbone=vit_tiny_patch16_224",
            "--set",
            "model.backbone_args={depth=1}",
        ]
    ),
    "an image size that patches do not divide": Scenario(
        [
            *TRAIN,
            "--set",
            "model.backbone=vit_tiny_patch16_224",
            "--set",
            "model.backbone_args={embed_dim = 16, depth = 1, num_heads = 2}",
            "--set",
            "model.patch_size=4",
            "--set",
            "model.image_size=18",
        ]
    ),
    "another size than the network is built for": Scenario(
        [
            *TRAIN,
            "--set",
            "model.backbone=levit_128s",
            "--set",
            "model.backbone_args={}",
            "--set",
            "train.batch_size=4",
        ],
        slow=True,
    ),
    "an encoder without its pooling": Scenario(
        [
            *TRAIN,
            *("--set", "model.backbone=qwen3_vit_88m_enc"),
            *("--set", "model.backbone_args={embed_dim = 32, depth = 1, num_heads = 2}"),
            *("--set", "views.size=32", "--set", "eval.resize=32", "--set", "eval.crop=32"),
        ]
    ),
    "an argument that the family lacks": Scenario([*TRAIN, "--set", "model.image_size=16"]),
    "views that nobody compares": Scenario(
        [*TRAIN, "--set", "objective.name=vicreg", "--set", "views.small.count=2", "--set", "views.small.size=16"]
    ),
    "small views and a second branch": Scenario(
        [
            *TRAIN,
            "--set",
            "objective.stop_gradient=true",
            "--set",
            "views.small.count=2",
            "--set",
            "views.small.size=16",
        ]
    ),
    "a queue that takes whole batches": Scenario(
        [
            *TRAIN,
            *PHOTOS,
            "--set",
            "train.batch_size=4",
            "--set",
            "objective.name=moco",
            "--set",
            "data.drop_last=false",
        ]
    ),
    "a queue of no whole number of batches": Scenario(
        [*TRAIN, *PHOTOS, "--set", "train.batch_size=4", "--set", "objective.name=moco", "--set", "objective.queue=10"]
    ),
    "batch norm groups larger than the batch": Scenario(
        [
            *(*TRAIN, *PHOTOS, "--set", "train.batch_size=4", "--set", "objective.name=moco"),
            *("--set", "objective.queue=8", "--set", "objective.batch_norm_groups=4"),
        ]
    ),
    "batch norm groups beside synchronised batch norm": Scenario(
        [
            *(
                *TRAIN,
                *PHOTOS,
                "--set",
                "train.batch_size=4",
                "--set",
                "objective.name=moco",
                "--set",
                "objective.queue=8",
            ),
            *("--set", "objective.batch_norm_groups=2", "--set", "train.sync_batch_norm=true"),
        ]
    ),
    "a predictor of a method without one": Scenario(
        [*TRAIN, "--set", "objective.name=supervised", "--set", "model.predictor=[8]"]
    ),
    "no labels to learn from": Scenario(
        [*TRAIN, *PHOTOS, "--data", "one folder", "--set", "train.batch_size=2", "--set", "objective.name=supervised"]
    ),
    "projector too wide": Scenario([*TRAIN, "--set", "model.projector=[9999999,9999999]"], slow=True),
    "no recomputing": Scenario(
        [
            *TRAIN,
            "--set",
            "model.backbone=dla46_c",
            "--set",
            "model.backbone_args={}",
            "--set",
            "views.size=32",
            "--set",
            "eval.crop=32",
            "--set",
            "eval.resize=32",
            "--set",
            "train.batch_size=4",
            "--set",
            "train.activation_checkpointing=true",
        ],
        slow=True,
    ),
    "no compiler": Scenario([*TRAIN, "--set", "train.compile=true"], without_a_compiler),
    "compiler not there": Scenario([*TRAIN, "--set", "train.compile=true"], compiler_named),
    "compiled code nowhere": Scenario([*TRAIN, "--set", "train.compile=true"], compiled_code_nowhere),
    "not to be compiled": Scenario([*RECIPE, *SHORT, "--set", "train.compile=true"], not_to_be_compiled),
    "no memory": Scenario(
        [*RECIPE, *SHORT],
        failing("barlowctl.assemble.launch.pretrain", NO_MEMORY),
        slow=True,
    ),
    "no memory, of a small batch": Scenario(
        [*RECIPE, *SHORT, *PHOTOS, "--set", "train.batch_size=6"],
        failing("barlowctl.assemble.launch.pretrain", NO_MEMORY),
    ),
    "no memory, and a long queue": Scenario(
        [*RECIPE, *SHORT, "--set", "objective.name=swav", "--set", "objective.queue=4000"],
        failing("barlowctl.assemble.launch.pretrain", NO_MEMORY),
    ),
    "networks that no memory holds": Scenario(
        [*TRAIN, "--set", "objective.name=swav", "--set", "objective.prototypes=2147483647"]
    ),
    "networks for a larger machine": Scenario(TRAIN, little_memory),
    "a step for a larger machine": Scenario([*RECIPE, *SHORT], large_step),
    "a small step for a larger machine": Scenario(
        [*RECIPE, *SHORT, *PHOTOS, "--set", "train.batch_size=6"], large_step
    ),
    "memory that ran out elsewhere": Scenario(
        ["recipes", "show", "digits.toml"], failing("barlowctl.recipe.load.read_text", MemoryError())
    ),
    "a warm-up longer than the run's steps": Scenario(
        [
            *TRAIN,
            *PHOTOS,
            "--set",
            "train.batch_size=2",
            "--set",
            "train.epochs=0.4",
            "--set",
            "train.warmup_epochs=0.4",
        ]
    ),
    "a part that the backbone does not have": Scenario([*TRAIN, "--set", "train.freeze=layer9"]),
    "no such device": Scenario([*TRAIN, "--device", "cuda:7"]),
    "no W&B": Scenario(
        [*RECIPE, *SHORT, "--wandb"],
        wandb,
        slow=True,
    ),
    "TensorBoard does not take the run": Scenario(
        [*RECIPE, *SHORT, "--tensorboard"],
        failing("torch.utils.tensorboard.SummaryWriter", OSError(28, "No space left on device")),
    ),
    "W&B does not work": Scenario([*RECIPE, *SHORT, "--wandb"], wandb_broken),
    "place taken": Scenario([*RECIPE, *SHORT, "--out", "taken"]),
    "place of a stopped run": Scenario([*RECIPE, *SHORT, "--out", "b"], place_of_a_stopped_run, slow=True),
    "no data set": Scenario(["pretrain", "--recipe", "digits.toml", "--set", "data.dataset=scans"]),
    "images cannot be read any more": Scenario(
        [*RECIPE, "--threads", "1", "--set", "train.checkpoint_every_epochs=1"],
        lambda patch: later(patch, 14, OSError(5, "Input/output error")),
    ),
    "an image cannot be read any more": Scenario(
        [*RECIPE, "--threads", "1", "--set", "train.checkpoint_every_epochs=1"],
        lambda patch: later(patch, 14, UnreadableImage(Path("home/digits"), "7", "it is damaged")),
        slow=True,
    ),
    "a network fails": Scenario(
        [*RECIPE, "--threads", "1", "--set", "train.checkpoint_every_epochs=1"],
        lambda patch: later(patch, 14, ValueError("of no shape")),
        code=1,
    ),
    "records cannot be written": Scenario(
        [*RECIPE, *SHORT], failing("barlowctl.train.sinks.open", OSError(28, "No space left on device"))
    ),
    "neither records nor a checkpoint can be written": Scenario([*RECIPE, *SHORT], nothing_written),
    "a disk fails": Scenario(["recipes", "list"], failing("barlowctl.recipe.catalog.shipped", OSError(5, "I/O error"))),
    "a worker is gone": Scenario([*RECIPE, *SHORT, "--loader", "plain", "--workers", "2"], a_worker_is_gone, slow=True),
    "images cannot be read": Scenario(
        [*RECIPE, *SHORT], failing("barlowctl.train.loop.next", OSError(5, "Input/output error"))
    ),
    "no run to probe": Scenario(["probe"], an_empty_home, then="fashion-mnist"),
    "no run to show": Scenario(["runs", "show"], an_empty_home, then="fashion-mnist"),
    "no runs": Scenario(["runs", "list"], an_empty_home, code=0, then="fashion-mnist"),
}
