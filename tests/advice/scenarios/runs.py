"""Runs that are there: looked at, resumed, restored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl
from tests.advice.scenario import Scenario
from tests.advice.scenarios.training import PHOTOS, failing

Patch = pytest.MonkeyPatch
RESUME = ["pretrain", "--resume", "runs/stopped", "--threads", "1"]


def edited(run: str, before: str, after: str, *, forgotten: bool = False) -> Callable[[Patch], None]:
    """A run's recipe, changed by hand; of a version that kept no copy of it."""

    def prepare(patch: Patch) -> None:
        file = Path(run, "recipe.toml")
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))
        if forgotten:
            about = json.loads(Path(run, "run.json").read_text())
            del about["recipe"]
            Path(run, "run.json").write_text(json.dumps(about))

    return prepare


def gone(name: str) -> Callable[[Patch], None]:
    return lambda patch: shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()


def images_moved(patch: Patch) -> None:
    """The data home was another folder, which is named now."""
    shutil.copytree("home/digits", "moved")
    shutil.rmtree("home/digits")
    about = json.loads(Path("runs/stopped/run.json").read_text())
    about["data"]["path"] = "/nowhere/train.beton"
    Path("runs/stopped/run.json").write_text(json.dumps(about))


def other_images(patch: Patch) -> None:
    Path("others").mkdir()
    shutil.copy("home/digits/test.beton", "others/train.beton")


def of_photos_and_a_damaged_list(patch: Patch) -> None:
    """A run on images that are not packed; one is gone, and what was noted of them is damaged."""
    values = [*PHOTOS, "--set", "train.batch_size=2", "--set", "train.epochs=1", "--threads", "1", "--quiet"]
    assert barlowctl(["pretrain", "--recipe", "digits.toml", *values, "--out", "runs/photos"]) == 0
    Path("runs/photos/result.json").unlink()
    Path("runs/photos/images.txt.gz").write_bytes(b"nothing")
    Path("my images/train/a/0.png").unlink()


def checkpoints_damaged(patch: Patch) -> None:
    for file in Path("runs/stopped/checkpoints").rglob("*.safetensors"):
        file.write_bytes(b"nothing")


def nothing_recorded(patch: Patch) -> None:
    Path("runs/stopped/metrics.jsonl").write_text("")
    shutil.rmtree("runs/done")


def started_from_it(patch: Patch) -> None:
    file = Path("runs/stopped/run.json")
    about = json.loads(file.read_text())
    about["recipe"]["init"] = {"weights": str(Path("runs/done").resolve())}
    file.write_text(json.dumps(about))


def another_in_it(patch: Patch) -> None:
    shutil.copytree("runs/stopped", "runs/done/inner")


def linked(patch: Patch) -> None:
    Path("runs/link").symlink_to(Path("runs/done").resolve())


def cell_of_a_study(patch: Patch) -> None:
    shutil.copytree("runs/done", "study/cells/a-1/seed-0")
    Path("study/study.json").write_text("{}")


SCENARIOS = {
    "no run": Scenario(["pretrain", "--resume", "runs/none"]),
    "no such run": Scenario(["runs", "show", "nothing"]),
    "no run to choose": Scenario(["runs", "best"], gone("runs"), then="fashion-mnist"),
    "no evaluation to choose by": Scenario(["runs", "best", "stopped"], nothing_recorded),
    "a measure that no run has": Scenario(["runs", "best", "--by", "linear"]),
    "a state that is damaged": Scenario(["export", "runs/stopped/checkpoints/step-00000020"], checkpoints_damaged),
    "a run renamed": Scenario(["runs", "rename", "done", "best"], code=0),
    "a name that is taken": Scenario(["runs", "rename", "done", "stopped"]),
    "a link renamed": Scenario(["runs", "rename", "runs/link", "best"], linked),
    "a cell renamed": Scenario(["runs", "rename", "study/cells/a-1/seed-0", "best"], cell_of_a_study),
    "a run cannot be renamed": Scenario(
        ["runs", "rename", "done", "best"], failing("os.rename", OSError(13, "Permission denied"))
    ),
    "a note cannot be written": Scenario(
        ["runs", "note", "done", "seed 0"],
        failing("barlowctl.files.write_bytes", PermissionError(13, "Permission denied")),
    ),
    "nobody to ask about a removal": Scenario(["runs", "remove", "stopped"]),
    "a run that another started from is removed": Scenario(["runs", "remove", "done", "--yes"], started_from_it),
    "a run is removed that others lie in": Scenario(["runs", "remove", "done", "--yes"], another_in_it),
    "a link to a run is removed": Scenario(
        ["runs", "remove", "runs/link", "--yes"], linked, then="here is nobody to ask"
    ),
    "a run cannot be removed": Scenario(
        ["runs", "remove", "done", "--yes"],
        failing("barlowctl.files.put_aside", OSError(13, "Permission denied")),
    ),
    "a table as a picture": Scenario(["runs", "table", "--out", "table.png"]),
    "a table of what no run has": Scenario(["runs", "table", "--measures", "kn"]),
    "a table of runs without numbers": Scenario(
        ["runs", "table", "--measures", "knn"], lambda patch: Path("runs/done/metrics.jsonl").write_text("")
    ),
    "a table of a setting that no recipe has": Scenario(["runs", "table", "--settings", "lambd"]),
    "a table of no finished run": Scenario(["runs", "table", "stopped"]),
    "runs as a table": Scenario(["runs", "table"], code=0),
    "runs listed": Scenario(["runs", "list"], code=0),
    "a stopped run": Scenario(["runs", "show", "stopped"], code=0),
    "no picture": Scenario(["runs", "compare", "done", "stopped", "--out", "curves.txt"]),
    "picture there": Scenario(["runs", "compare", "done", "stopped", "--out", "one folder/0.png"]),
    "nothing to draw": Scenario(["runs", "compare", "stopped", "--out", "curves.png"], nothing_recorded),
    "page there": Scenario(
        ["report", "runs/done", "--no-images", "--out", "page.html"], lambda patch: Path("page.html").touch()
    ),
    "no page": Scenario(["report", "runs/done", "--no-images", "--out", "page.pdf"]),
    "wrong flag": Scenario(["runs", "list", "--al"]),
    "wrong command": Scenario(["run"]),
    "no place of a report": Scenario(["report", "runs/none"]),
    "finished": Scenario(
        ["pretrain", "--resume", "runs/done"],
        slow=True,
    ),
    "a run's recipe resumed": Scenario(["pretrain", "--resume", "runs/stopped/recipe.toml", "--threads", "1"]),
    "a recipe resumed": Scenario(["pretrain", "--resume", "digits.toml", "--threads", "1"]),
    "resumed to another place": Scenario([*RESUME, "--out", "runs/b"]),
    "resumed with another recipe": Scenario([*RESUME, "--set", "train.epochs=9"]),
    "recipe edited": Scenario(RESUME, edited("runs/stopped", "epochs = 2", "epochs = 1")),
    "recipe edited in an old run": Scenario(RESUME, edited("runs/stopped", "epochs = 2", "epochs = 1", forgotten=True)),
    "recipe gone": Scenario(RESUME, gone("runs/stopped/recipe.toml")),
    "recipe of another network": Scenario(
        ["embed", "runs/done", "one folder", "--out", "f.npz"],
        edited("runs/done", "projector = [64, 64]", "projector = [8]"),
    ),
    "nothing to restore from": Scenario(
        ["runs", "restore", "stopped"], edited("runs/stopped", "epochs = 2", "epochs = 1", forgotten=True), slow=True
    ),
    "restored": Scenario(["runs", "restore", "stopped"], edited("runs/stopped", "epochs = 2", "epochs = 1"), code=0),
    "recipe not to be restored": Scenario(
        ["runs", "restore", "stopped"],
        lambda patch: (
            edited("runs/stopped", "epochs = 2", "epochs = 1")(patch),
            failing("os.replace", OSError(28, "No space left on device"))(patch),
        ),
    ),
    "other images": Scenario([*RESUME, "--data", "./others"], other_images),
    "other images, list damaged": Scenario(
        ["pretrain", "--resume", "runs/photos", "--threads", "1"],
        of_photos_and_a_damaged_list,
        then="was trained on other images",
    ),
    "no checkpoints to embed with": Scenario(
        ["embed", "runs/stopped", "one folder", "--out", "f.npz"],
        gone("runs/stopped/checkpoints"),
        slow=True,
    ),
    "checkpoints damaged": Scenario(RESUME, checkpoints_damaged),
    "run.json gone": Scenario(RESUME, gone("runs/stopped/run.json")),
    "run.json damaged": Scenario(RESUME, lambda patch: Path("runs/stopped/run.json").write_text("{")),
    "run.json gone, recipe edited": Scenario(
        ["runs", "restore", "runs/stopped"],
        lambda patch: (
            edited("runs/stopped", "epochs = 2", "epochs = 1")(patch),
            gone("runs/stopped/run.json")(patch),
        ),
        slow=True,
    ),
    "result damaged": Scenario(["runs", "show", "done"], lambda patch: Path("runs/done/result.json").write_text("{")),
    "a checkpoint resumed": Scenario(
        ["pretrain", "--resume", "runs/done/checkpoints/step-00000010"], then="'runs/done' is finished", slow=True
    ),
    "a checkpoint looked at": Scenario(["runs", "show", "runs/done/checkpoints/step-00000010"]),
    "a run that is damaged is listed": Scenario(["runs", "list"], gone("runs/stopped/run.json"), code=0),
    "a disk that fails": Scenario(RESUME, failing("os.replace", OSError(28, "No space left on device"))),
}
