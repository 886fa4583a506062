"""Studies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.data.beton.layout import RAW
from barlowctl.data.beton.reader import Beton
from barlowctl.data.beton.writer import BetonWriter
from tests.advice.scenario import Scenario
from tests.advice.scenarios.training import an_empty_home, failing

Patch = pytest.MonkeyPatch
SHORT = ["--set", "train.epochs=1", "--set", "eval.every_epochs=0", "--set", "data.holdout=1000",
         "--set", "eval.queries=off", "--threads", "1"]  # fmt: skip
STUDY = ["ablate", "--grid", "grid.toml", "--recipe", "digits.toml", *SHORT]


def grid(patch: Patch) -> None:
    Path("grid.toml").write_text('[baseline]\n[too-big]\n"train.batch_size" = 4096\n')


def small(patch: Patch) -> None:
    Path("grid.toml").write_text("[baseline]\n")


def training_started(patch: Patch) -> None:
    """A study that is written down, and of which nothing is trained."""
    small(patch)
    assert barlowctl([*STUDY, "--print-sbatch", "--quiet"]) == 0


def record(text: str) -> Callable[[Patch], None]:
    """A study whose record was damaged."""

    def prepare(patch: Patch) -> None:
        training_started(patch)
        Path("studies/digits/study.json").write_text(text)

    return prepare


def of_another_recipe(patch: Patch) -> None:
    training_started(patch)
    file = Path("digits.toml")
    file.write_text(file.read_text().replace("lambd = 0.02", "lambd = 0.5"))


def of_the_first_versions(patch: Patch) -> None:
    """A study whose cells are in folders without a digest."""
    training_started(patch)
    study = Path("studies/digits")
    shutil.copytree("runs/done", study / "cells" / "baseline" / "seed-0")
    (study / "study.json").write_text('{"study": "loss", "recipe_digest": "0d1d38e61361915c", "variants": {}}')


def of_other_images(patch: Patch) -> None:
    """A study, and as many images, turned upside down."""
    training_started(patch)
    Path("turned").mkdir()
    for split in ("train", "test"):
        images = Beton.open(Path(f"home/digits/{split}.beton"))
        path = Path(f"turned/{split}.beton")
        with BetonWriter(path, capacity=images.num_samples, class_names=images.class_names) as writer:
            for position, label in enumerate(images.labels):
                turned = images.image(position)[::-1].tobytes()
                writer.append(turned, mode=RAW, width=8, height=8, label=int(label))
            writer.finish(channels=1)


def finished(patch: Patch) -> None:
    """A study of one cell, which is trained and measured."""
    small(patch)
    assert barlowctl([*STUDY, "--quiet"]) == 0


def checkpoint_damaged(patch: Patch) -> None:
    """What was trained cannot be read before it was measured."""
    finished(patch)
    (cell,) = Path("studies").rglob("cell.json")
    cell.unlink()
    newest = sorted((cell.parent / "checkpoints").glob("step-*"))[-1]
    shutil.copytree(newest, newest.with_name("step-00000001"))
    for file in newest.glob("*.safetensors"):
        file.write_bytes(b"nothing")


def stopped(patch: Patch) -> None:
    """A signal came while a cell was trained."""
    from barlowctl.errors import RunStopped

    small(patch)
    failing("barlowctl.study.cells.run_cell", RunStopped("stopped at step 1 of 3; the state is saved"))(patch)


METHODS = ["ablate", "--recipe", "digits.toml", *SHORT, "--dry-run", "--methods"]
NO_IMAGES = [*METHODS, "vicreg", "--budget"]


def costs(text: str) -> Callable[[Patch], None]:
    """A study whose CPU-seconds of a step were damaged."""

    def prepare(patch: Patch) -> None:
        Path("studies/digits").mkdir(parents=True)
        Path("studies/digits/cpu-seconds.json").write_text(text)

    return prepare


def two_recipes(patch: Patch) -> None:
    """One's own family, of Barlow Twins and VICReg."""
    for name in ("mine", "mine-vicreg"):
        shutil.copy("digits.toml", f"{name}.toml")
    Path("mine-vicreg.toml").write_text(Path("digits.toml").read_text().replace("lambd = 0.02", 'name = "vicreg"'))


def another_is_finished(patch: Patch) -> None:
    """A finished study, and a grid none of whose variants it has."""
    finished(patch)
    Path("other.toml").write_text('[wide]\n"model.projector" = [128, 128]\n')


SCENARIOS = {
    "no such method": Scenario([*METHODS, "vicregg", "--settings-of", "mine"], two_recipes, slow=True),
    "no recipe of the method": Scenario([*METHODS, "byol", "--settings-of", "mine"], two_recipes),
    "no such family": Scenario([*METHODS, "vicreg", "--settings-of", "fashion-mnst"], slow=True),
    "settings of no methods": Scenario(
        ["ablate", "--drop-aug", "--recipe", "digits.toml", *SHORT, "--dry-run", "--settings-of", "mine"],
        two_recipes,
        slow=True,
    ),
    "methods of the study of the loss": Scenario([*METHODS, "vicreg", "--loss"], then="variant '", slow=True),
    "no budget": Scenario([*NO_IMAGES, "hours=3"], slow=True),
    "budget without a number": Scenario([*NO_IMAGES, "steps"], slow=True),
    "budget of less than a step": Scenario([*NO_IMAGES, "images=3"], slow=True),
    "costs damaged": Scenario([*NO_IMAGES, "cpu-seconds=9"], costs("{"), slow=True),
    "costs are no record": Scenario([*NO_IMAGES, "cpu-seconds=9"], costs("[]"), slow=True),
    "a study of another loss": Scenario(
        ["ablate", "--lambd", "--recipe", "digits.toml", *SHORT, "--dry-run", "--set", "objective.name=supervised"]
    ),
    "no study": Scenario(["ablate"], an_empty_home, then="fashion-mnist", slow=True),
    "no such study": Scenario(["ablate", "los", "--recipe", "digits.toml", "--dry-run"], slow=True),
    "nothing finished": Scenario(
        [*STUDY, "--show"],
        small,
        slow=True,
    ),
    "no study, and one is in the directory": Scenario(
        ["ablate", "--out", "studies/digits", "--show"], finished, slow=True
    ),
    "nothing finished, and another study is": Scenario(
        ["ablate", "--grid", "other.toml", "--recipe", "digits.toml", *SHORT, "--show"],
        another_is_finished,
        slow=True,
    ),
    "a variant that cannot be": Scenario(
        [*STUDY, "--dry-run"],
        grid,
        then="leave no variant to train",
        slow=True,
    ),
    "study of another recipe": Scenario([*STUDY, "--print-sbatch"], of_another_recipe),
    "study of the first versions": Scenario([*STUDY, "--print-sbatch"], of_the_first_versions),
    "study of other settings": Scenario([*STUDY, "--set", "train.epochs=2", "--print-sbatch"], training_started),
    "study of other images": Scenario([*STUDY, "--data", "./turned", "--print-sbatch"], of_other_images),
    "record of a study damaged": Scenario([*STUDY, "--print-sbatch"], record("{")),
    "no record of a study": Scenario([*STUDY, "--print-sbatch"], record("[]")),
    "nothing open": Scenario([*STUDY, "--print-sbatch"], finished, slow=True),
    "trained and damaged": Scenario(STUDY, checkpoint_damaged, slow=True),
    "study stopped": Scenario(
        STUDY,
        stopped,
        code=3,
        slow=True,
    ),
}
