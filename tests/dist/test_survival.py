"""Nothing lost: killed at random moments and resumed, full disks, read-only folders, damage, two at once, NaN."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from barlowctl.cli.app import run as barlowctl
from barlowctl.runs.records import read as read_records
from barlowctl.train import checkpoint
from tests.cli.conftest import RECIPE, digits  # noqa: F401 - a fixture
from tests.dist.lives import Life, kill_and_resume, until

pytestmark = pytest.mark.dist

SAVING_OFTEN = (
    "--set", "train.batch_size=128", "--set", "train.epochs=3", "--set", "train.checkpoint_every_steps=1",
    "--set", "train.sync_batch_norm=true", "--set", "eval.every_epochs=2", "--set", "eval.bank=200",
)  # fmt: skip
QUIET = ("--threads", "1", "--quiet")
SHARD = ("--set", "train.shard=true")
WITH_A_STATE = {
    "mixed-barlow-twins": ("objective.reg_warmup=0.5",),
    "pirl": (
        "objective.negatives=64", "views.patches.grid=2", "views.patches.cell=12", "views.patches.window=8",
        "model.projector=[32]",
    ),
    "byol": ("objective.momentum=0.9",),
    "swav": (
        "objective.prototypes=16", "objective.freeze_prototypes_epochs=1", "objective.queue=512",
        "objective.queue_from_epoch=0.5", "views.small.count=2", "views.small.size=8", "model.projector=[64,32]",
    ),
    "moco": (
        "objective.queue=256", "objective.batch_norm_groups=2", "train.sync_batch_norm=false", "train.freeze=layer1",
        "train.freeze_backbone_epochs=1.3", "optimizer.layer_decay=0.7",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A folder to train in: `data` is the data home, `digits.toml` the recipe, runs go to `runs`."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder / "digits.toml"

    @classmethod
    def make(cls, folder: Path, data: Path) -> Place:
        (folder / "data").symlink_to(data)
        (folder / "digits.toml").write_text(RECIPE)
        (folder / "runs").mkdir()
        return cls(folder)

    def start(self, name: str, *extra: str, ranks: int = 1) -> tuple[Path, Life]:
        run = self.folder / "runs" / name
        return run, Life(self.folder, "pretrain", "--recipe", str(self.recipe), *extra, "--out", str(run), ranks=ranks)

    def whole(self, name: str, *extra: str, ranks: int = 1) -> Path:
        run, life = self.start(name, *extra, *QUIET, ranks=ranks)
        assert [code for code, _ in life.wait()] == [0] * ranks
        return run

    def resume(self, run: Path, *extra: str, **limits: int) -> tuple[int | None, str]:
        [answer] = Life(self.folder, "pretrain", "--resume", str(run), "--threads", "1", *extra, **limits).wait()
        return answer


@pytest.fixture
def place(tmp_path: Path, digits: Path) -> Place:  # noqa: F811
    return Place.make(tmp_path, digits)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Place:  # noqa: F811
    """A whole run `whole`, and `stopped`: by SIGUSR1 after a few steps, with two checkpoints."""
    place = Place.make(tmp_path_factory.mktemp("survival"), digits)
    place.whole("whole", *SAVING_OFTEN)
    run, life = place.start("stopped", *SAVING_OFTEN, *QUIET)
    assert until(lambda: len(checkpoint.list_checkpoints(run / "checkpoints")) == 2, life)
    life.signal(signal.SIGUSR1)
    [(code, output)] = life.wait()
    assert code == 3, output
    assert f"barlowctl pretrain --resume {run}" in output
    return place


@pytest.fixture
def stopped(shared: Place, place: Place) -> Path:
    """A stopped run of one's own."""
    run = place.folder / "runs" / "stopped"
    shutil.copytree(shared.folder / "runs" / "stopped", run)
    return run


def weights(run: Path) -> list[bytes]:
    last = checkpoint.list_checkpoints(run / "checkpoints")[-1]
    return [(last / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors", "random.safetensors")]


def assert_survives(place: Place, *, kills: int, ranks: int, method: Sequence[str] = ()) -> dict[str, int]:
    extra = (*SAVING_OFTEN, *(word for value in method for word in ("--set", value)))
    whole = place.whole("whole", *extra, ranks=ranks)
    runs, hit = kill_and_resume(place.folder, place.recipe, kills=kills, ranks=ranks, seed=kills, extra=extra)
    for run in runs:
        assert weights(run) == weights(whole), run
        assert not list(run.glob("checkpoints/.partial*"))
        records = [(run / "metrics.jsonl").read_text().splitlines() for run in (run, whole)]
        assert len(records[0]) == len(records[1])
    assert hit["kills"] == kills
    return hit


@pytest.mark.parametrize(("ranks", "kills"), [(1, 4), (2, 2)])
def test_killed_at_random_moments_and_resumed(place: Place, ranks: int, kills: int) -> None:
    assert_survives(place, kills=kills, ranks=ranks)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_A_STATE)
def test_methods_with_a_state_of_their_own_are_killed_and_resumed(place: Place, name: str) -> None:
    """Target network, prototypes frozen and let go, queue half full and full, memory bank,
    a backbone frozen in part and for a while: the run that was not killed."""
    assert_survives(place, kills=4, ranks=2, method=(f"objective.name={name}", *WITH_A_STATE[name]))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_fifty_times(place: Place, ranks: int) -> None:
    hit = assert_survives(place, kills=50, ranks=ranks)
    print(f"{ranks} processes: {hit}")
    assert hit["writing"] >= 5


def test_a_damaged_checkpoint_falls_back_to_the_one_before(shared: Place, place: Place, stopped: Path) -> None:
    newest = checkpoint.list_checkpoints(stopped / "checkpoints")[-1]
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    code, output = place.resume(stopped)
    assert code == 0, output
    assert f"checkpoint {newest.name} is not usable (model.safetensors was altered or cut short)" in output
    assert weights(stopped) == weights(shared.folder / "runs" / "whole")


def test_a_full_disk_stops_the_run_and_loses_nothing(shared: Place, place: Place, stopped: Path) -> None:
    """Files may not grow beyond what a checkpoint needs: the next save fails in the middle."""
    checkpoints = checkpoint.list_checkpoints(stopped / "checkpoints")
    size = (checkpoints[-1] / "optimizer.safetensors").stat().st_size
    code, output = place.resume(stopped, "--quiet", file_bytes=size - 1)
    assert code == 2
    assert "could not be written" in output
    assert "--resume" in output
    assert checkpoint.list_checkpoints(stopped / "checkpoints") == checkpoints
    assert not list(stopped.glob("checkpoints/.partial*"))
    code, output = place.resume(stopped, "--quiet")
    assert code == 0, output
    assert weights(stopped) == weights(shared.folder / "runs" / "whole")


def _make_read_only(run: Path) -> dict[str, int]:
    for path in [run, *run.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return {"user": 65534} if os.geteuid() == 0 else {}


def test_a_read_only_run_is_refused(place: Place, stopped: Path) -> None:
    if os.geteuid() == 0:  # root may write anywhere: the process becomes another user, who may look
        data = (place.folder / "data").resolve()
        for folder in {*stopped.parents, data, *data.parents} - {Path("/")}:
            folder.chmod(folder.stat().st_mode | 0o55)
    limits = _make_read_only(stopped)
    code, output = place.resume(stopped, "--quiet", **limits)
    stopped.chmod(0o755)
    assert code == 2, output
    assert f"'{stopped}' cannot be written to: Permission denied" in output


def test_the_second_process_on_a_run_is_refused(place: Place) -> None:
    run, life = place.start("held", "--set", "train.epochs=400", "--set", "train.checkpoint_every_steps=1", *QUIET)
    assert until(lambda: checkpoint.list_checkpoints(run / "checkpoints"), life)
    code, output = place.resume(run)
    assert code == 2
    assert f"is being trained by process {life.processes[0].pid} on " in output
    life.signal(signal.SIGTERM)
    assert life.wait()[0][0] == 3


def test_a_run_resumed_on_more_ranks_says_what_changes(place: Place, stopped: Path) -> None:
    endings = Life(place.folder, "pretrain", "--resume", str(stopped), "--threads", "1", ranks=2).wait()
    assert [code for code, _ in endings] == [0, 0], endings
    assert "note: trained on 1 rank until here, on 2 now: the order of images and every batch stay" in endings[0][1]
    assert endings[1][1] == ""


def test_a_number_of_ranks_that_cannot_share_the_batch_is_refused(place: Place, stopped: Path) -> None:
    endings = Life(place.folder, "pretrain", "--resume", str(stopped), "--threads", "1", ranks=3).wait()
    assert [code for code, _ in endings] == [2, 2, 2]
    assert "a batch of 128 images cannot be shared equally by 3 ranks" in endings[0][1]
    assert endings[1][1] == endings[2][1] == ""


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_loss_that_is_not_a_number_stops_all_with_the_state_saved(place: Place, ranks: int) -> None:
    wild = ("--set", "optimizer.name=sgd", "--set", "optimizer.lr=1e6", "--set", "optimizer.weight_decay=1e6",
            "--set", "train.warmup_epochs=0")  # fmt: skip
    run, life = place.start("diverging", *wild, *QUIET, ranks=ranks)
    endings = life.wait()
    assert [code for code, _ in endings] == [5] * ranks
    assert re.search("(the loss|the norm of the gradient of [^,]*) is (nan|inf).* at step", endings[0][1])
    assert all(output == "" for _, output in endings[1:])
    saved = checkpoint.load_latest(run / "checkpoints").state
    assert all(tensor.isfinite().all() for name, tensor in saved.model.items() if "running" in name)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_rank_ends_the_other_with_the_reason(place: Place, lost: int) -> None:
    long = ("--set", "train.epochs=400", "--set", "train.checkpoint_every_steps=1")
    run, life = place.start("lost", *long, *QUIET, ranks=2)
    assert until(lambda: checkpoint.list_checkpoints(run / "checkpoints"), life)
    life.signal(signal.SIGKILL, lost)
    endings = life.wait()
    assert endings[lost][0] is None
    code, output = endings[1 - lost]
    assert code == 4
    gone = f"rank {lost} is gone: its process {life.processes[lost].pid} was killed or crashed"
    assert f"rank {1 - lost} of 2 stopped: {gone}; the newest" in output
    assert re.search("the newest checkpoint is of step [1-9]", output)
    assert f"next: barlowctl pretrain --resume {run} --threads 1\n" in output
    assert checkpoint.load_latest(run / "checkpoints").state.step > 0


def test_of_four_ranks_the_lost_one_is_named_once(place: Place) -> None:
    """The others lose one another too, since each leaves: neither are they named, nor do all of them say it."""
    long = ("--set", "train.epochs=400", "--set", "train.checkpoint_every_steps=1")
    run, life = place.start("lost", *long, *QUIET, ranks=4)
    assert until(lambda: checkpoint.list_checkpoints(run / "checkpoints"), life)
    life.signal(signal.SIGKILL, 2)
    endings = life.wait()
    assert [code for code, _ in endings] == [4, 4, None, 4]
    outputs = [output for _, output in endings if output]
    gone = f"rank 2 is gone: its process {life.processes[2].pid} was killed or crashed; the newest checkpoint is of step"
    assert [output.count("error: ") for output in outputs] == [1]
    assert re.match(rf"error: rank [013] of 4 stopped: {gone}", outputs[0])


UNFINISHED: dict[str, Callable[[Path], None]] = {
    "nothing but the recipe": lambda run: None,
    "half a first checkpoint": lambda run: (run / "checkpoints" / ".partial-step-00000001-ab").mkdir(parents=True),
}


@pytest.mark.parametrize("state", UNFINISHED)
def test_a_run_killed_before_its_first_checkpoint_starts_again(shared: Place, place: Place, state: str) -> None:
    whole, run = shared.folder / "runs" / "whole", place.folder / "runs" / "young"
    run.mkdir()
    for name in ("recipe.toml", "run.json"):
        shutil.copy(whole / name, run / name)
    UNFINISHED[state](run)
    code, output = place.resume(run)
    assert code == 0, output
    assert "stopped before its first checkpoint" in output
    assert weights(run) == weights(whole)


def test_a_divided_backbone_is_evaluated_stopped_and_read_as_a_whole_one(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What online evaluations measure is within rounding; a stop, a resume on the same ranks: the bits of no stop."""
    linear = (*SAVING_OFTEN, "--set", "eval.linear=true")
    whole, divided = (
        place.whole(name, *linear, *shard, ranks=2) for name, shard in {"whole": (), "divided": SHARD}.items()
    )
    evaluations = [
        [line for line in read_records(run / "metrics.jsonl") if line["event"] == "evaluation"]
        for run in (whole, divided)
    ]
    assert len(evaluations[1]) == len(evaluations[0]) > 0
    for one, other in zip(*evaluations, strict=True):
        assert other.keys() == one.keys() >= {"knn", "linear"}
        assert other["knn"] == pytest.approx(one["knn"], abs=3.0)
        assert other["feature_spread"] == pytest.approx(one["feature_spread"], rel=1e-2)
    run, life = place.start("stopped", *linear, *SHARD, *QUIET, ranks=2)
    assert until(lambda: len(checkpoint.list_checkpoints(run / "checkpoints")) == 2, life)
    life.signal(signal.SIGTERM)
    assert [code for code, _ in life.wait()] == [3, 3]
    endings = Life(place.folder, "pretrain", "--resume", str(run), *QUIET, ranks=2).wait()
    assert [code for code, _ in endings] == [0, 0], endings
    assert weights(run) == weights(divided)
    monkeypatch.setenv("BARLOWCTL_DATA", str(place.folder / "data"))
    monkeypatch.setenv("BARLOWCTL_RUNS", str(place.folder / "runs"))
    for command in (
        ["probe", str(divided), "--json"],
        ["export", str(divided), "--format", "timm"],
        ["embed", str(divided), "--out", str(place.folder / "features.npz")],
        ["runs", "best"],
    ):
        assert barlowctl(command) == 0, capsys.readouterr().err
