"""How runs end and go on, at the command line: what is said, what is left, and nothing dropped in silence."""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from PIL import Image

from barlowctl.assemble import launch
from barlowctl.cli.app import run as barlowctl
from barlowctl.distributed import RankLost
from barlowctl.recipe import load
from barlowctl.recipe.begun import begun
from barlowctl.signals import STOPPING
from barlowctl.train import checkpoint, sinks
from barlowctl.train.loop import Loop
from tests.cli.conftest import RECIPE
from tests.train.test_monitors import Client

Captured = pytest.CaptureFixture[str]


def pretrain(*arguments: str) -> int:
    return barlowctl(["pretrain", "--threads", "1", *arguments])


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A run of 20 steps that SIGTERM stopped after step 12."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "digits.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARLOWCTL_DATA", str(digits))
        patch.setattr(Loop, "_step", stopping_after(12))
        assert pretrain("--recipe", str(folder / "digits.toml"), "--out", str(folder / "a"), "--quiet") == 3
    return folder / "a"


@pytest.fixture
def stopped(recipe: Path, stopped_once: Path, tmp_path: Path) -> Path:
    """One's own copy of it, `runs/a` from here."""
    return shutil.copytree(stopped_once, tmp_path / "runs" / "a")


def stopping_after(step: int, number: int = signal.SIGTERM) -> Any:
    make = Loop._step

    def one(self: Loop, *arguments: Any) -> None:
        make(self, *arguments)
        if self.progress.step == step:
            signal.raise_signal(number)

    return one


# ---- the recipe ------------------------------------------------------------------------------------------


def edit(run: Path, old: str, new: str) -> None:
    text = (run / "recipe.toml").read_text()
    assert old in text
    (run / "recipe.toml").write_text(text.replace(old, new, 1))


def test_an_edited_recipe_is_refused_with_the_difference_and_put_back(stopped: Path, capsys: Captured) -> None:
    original = (stopped / "recipe.toml").read_text()
    edit(stopped, "epochs = 2", "epochs = 9")
    edit(stopped, "lr = 0.002", "lr = 0.02")
    assert pretrain("--resume", "runs/a") == 2
    errors = capsys.readouterr().err
    assert "error: 'runs/a/recipe.toml' was edited since the run began:" in errors
    assert "train.epochs: 2 when the run began, 9 now" in errors
    assert "optimizer.lr: 0.002 when the run began, 0.02 now" in errors
    assert "next: barlowctl runs restore runs/a\n" in errors
    assert barlowctl(["runs", "restore", "runs/a"]) == 0
    assert "next: barlowctl pretrain --resume runs/a --threads 1\n" in capsys.readouterr().out
    assert (stopped / "recipe.toml").read_text() == original
    assert "epochs = 9" in (stopped / "recipe-edited.toml").read_text()
    assert pretrain("--resume", "runs/a", "--quiet") == 0


def test_a_recipe_that_is_gone_or_no_recipe_any_more_is_put_back(stopped: Path, capsys: Captured) -> None:
    file = stopped / "recipe.toml"
    original, broken = file.read_text(), "name = [\n"
    for damage in (file.unlink, lambda: file.write_text(broken)):
        for command in (["pretrain", "--resume", "runs/a"], ["export", "runs/a"], ["report", "runs/a"]):
            damage() if file.is_file() else None  # type: ignore[operator]
            assert barlowctl(command) == 2
            assert "next: barlowctl runs restore runs/a\n" in capsys.readouterr().err
        assert barlowctl(["runs", "restore", "runs/a"]) == 0
        assert file.read_text() == original
    assert (stopped / "recipe-edited.toml").read_text() == broken
    edit(stopped, "crop = 16", "crop = 8")
    capsys.readouterr()
    assert barlowctl(["export", "runs/a"]) == 0
    assert "was edited since the run began: eval.crop 16, now 8" in capsys.readouterr().out
    assert barlowctl(["runs", "restore", "runs/a"]) == 0  # the first edited one stays
    assert (stopped / "recipe-edited.toml").read_text() == broken
    assert "crop = 8" in (stopped / "recipe-edited-2.toml").read_text()


def test_a_recipe_in_other_words_is_the_same(stopped: Path) -> None:
    edit(stopped, "lr = 0.002", "lr = 2e-3  # the peak")
    edit(stopped, "warmup_epochs = 0.5", "warmup_epochs = 0.50")
    edit(stopped, "name = ", "# a comment\nname = ")
    assert pretrain("--resume", "runs/a", "--quiet") == 0


def test_a_run_of_an_earlier_version_knows_the_digest_only(stopped: Path, capsys: Captured) -> None:
    about = json.loads((stopped / "run.json").read_text())
    del about["recipe"]
    (stopped / "run.json").write_text(json.dumps(about))
    edit(stopped, "epochs = 2", "epochs = 9")
    assert pretrain("--resume", "runs/a") == 2
    errors = capsys.readouterr().err
    assert about["recipe_digest"] in errors
    assert "next: barlowctl pretrain --recipe runs/a/recipe.toml\n" in errors
    edit(stopped, "epochs = 9", "epochs = 2")
    assert pretrain("--resume", "runs/a", "--quiet") == 0


def test_a_run_of_wider_limits_goes_on(stopped: Path, capsys: Captured) -> None:
    """A rate that today's limits refuse in a new recipe; an edit is refused by them as ever."""
    about = json.loads((stopped / "run.json").read_text())
    about["recipe"]["optimizer"]["lr_biases"] = 1e-13
    edit(stopped, "lr_biases = 0.002", "lr_biases = 1e-13")
    about["recipe_digest"] = load.digest(begun(about["recipe"], "run.json"))
    (stopped / "run.json").write_text(json.dumps(about))
    assert barlowctl(["export", "runs/a", "--out", "a.safetensors"]) == 0
    assert pretrain("--resume", "runs/a", "--quiet") == 0
    assert barlowctl(["probe", "runs/a", "--knn", "--threads", "1", "--quiet"]) == 0
    edit(stopped, "lr_biases = 1e-13", "lr_biases = 1e-14")
    assert barlowctl(["export", "runs/a", "--out", "b.safetensors"]) == 2
    assert "optimizer.lr_biases is 1e-14. Allowed: a number from 1e-12" in capsys.readouterr().err


def test_the_digest_of_a_file_is_that_of_its_recipe(recipe: Path) -> None:
    """Whatever keys later versions add: an old file's digest is computed from the keys it has."""
    value = load.load(str(recipe))
    values = tomllib.loads(load.dump(value))
    for section, keys in load.ADDED_LATER.items():
        table = functools.reduce(lambda part, name: part.get(name, {}), section.split("."), values)
        for key in keys:
            table.pop(key, None)  # views.small is written where there are small views
    before_them = tomli_w.dumps(values)
    assert load.digest_of(before_them) == load.digest(value)
    assert load.digest_of(before_them.replace("epochs = 2", "epochs = 3")) != load.digest(value)
    assert load.digest_of("no [toml") is None


# ---- records ---------------------------------------------------------------------------------------------


def test_a_run_without_its_checkpoints_starts_again_and_keeps_its_records(stopped: Path, capsys: Captured) -> None:
    before = (stopped / "metrics.jsonl").read_bytes()
    for path in checkpoint.list_checkpoints(stopped / "checkpoints"):
        (path / "state.json").unlink()
        path.rename(stopped / path.name)
    assert pretrain("--resume", "runs/a") == 0
    output = capsys.readouterr().out
    [aside] = stopped.glob("metrics-*.jsonl")
    assert aside.read_bytes() == before
    assert "note: there is no checkpoint in 'runs/a/checkpoints', though the run had come to step 12: " in output
    assert f"its records are kept in '{aside.name}'" in output
    steps = [record["step"] for record in records(stopped / "metrics.jsonl") if record["event"] == "step"]
    assert steps == [1, *range(2, 21, 2)]


def test_steps_that_are_made_again_are_said(stopped: Path, capsys: Captured) -> None:
    newest = checkpoint.list_checkpoints(stopped / "checkpoints")[-1]
    newest.rename(stopped / newest.name)
    assert pretrain("--resume", "runs/a") == 0
    assert "the newest checkpoint is of step 10: steps 11 to 12 are made again" in capsys.readouterr().out


def test_a_new_run_that_fails_before_its_first_step_leaves_nothing(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def fail(self: Loop, *arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", fail)
        assert pretrain("--recipe", str(recipe), "--out", "runs/a") == 2
    assert "error: the GPU's memory ran out: CUDA out of memory; nothing was trained yet" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []


def test_memory_that_runs_out_later_leaves_the_state(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    make = Loop._step

    def fail(self: Loop, *arguments: Any) -> None:
        if self.progress.step == 7:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        make(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", fail)
        assert pretrain("--recipe", str(recipe), "--out", "runs/a") == 2
    errors = capsys.readouterr().err
    assert "CUDA out of memory; the state of step 7 is saved: barlowctl pretrain --resume runs/a" in errors
    assert pretrain("--resume", "runs/a", "--quiet") == 0


# ---- evaluations, readers and monitors ---------------------------------------------------------------------


def test_an_evaluation_broken_off_is_made_at_the_resume_and_recorded_once(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from barlowctl.assemble import evaluation

    def interrupted(*_: Any) -> None:
        signal.raise_signal(signal.SIGHUP)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "diagnose", interrupted)
        assert pretrain("--recipe", str(recipe), "--out", "runs/a", "--quiet") == 3
    assert pretrain("--resume", "runs/a", "--quiet") == 0
    kinds = [(record["event"], record["step"]) for record in records(tmp_path / "runs/a/metrics.jsonl")]
    assert [kind for kind in kinds if kind[0] != "step"] == [
        ("epoch", 10), ("evaluation", 10), ("epoch", 20), ("evaluation", 20),
    ]  # fmt: skip
    assert json.loads((tmp_path / "runs/a/result.json").read_text())["knn"] > 30


def test_a_disk_that_takes_no_spectra_does_not_end_the_run(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from barlowctl.assemble import evaluation

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluation, "save_spectra", full)
    assert pretrain("--recipe", str(recipe), "--out", "runs/a") == 0
    output = capsys.readouterr().out
    assert output.count("is not written any more (OSError: [Errno 28] No space left on device)") == 1


def test_a_reader_that_goes_away_does_not_end_the_run(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Gone:
        encoding, errors = "utf-8", "strict"

        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self) -> None: ...

        def isatty(self) -> bool:
            return False

        def fileno(self) -> int:
            raise OSError("none")

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Gone())
        assert pretrain("--recipe", str(recipe), "--out", "runs/a") == 0
    assert (tmp_path / "runs/a/result.json").is_file()
    errors = capfd.readouterr().err
    assert errors == (
        "note: nobody reads the output any more (Broken pipe); training goes on: barlowctl runs watch runs/a\n"
    )


def test_wandb_without_a_login_leaves_nothing(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    import importlib.machinery

    def refuse() -> None:
        raise RuntimeError("No API key configured.")

    client = Client(refuse)
    client.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", client)
    assert pretrain("--recipe", str(recipe), "--out", "runs/a", "--wandb") == 2
    errors = capsys.readouterr().err
    assert "No API key configured." in errors
    assert "next: wandb login\n" in errors
    assert list((tmp_path / "runs").iterdir()) == []


# ---- what cannot work, and what is not lost ---------------------------------------------------------------


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_compiling_without_a_compiler_is_refused(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, dry: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/g++")
    assert pretrain("--recipe", str(recipe), "--set", "train.compile=true", *dry) == 2
    errors = capsys.readouterr().err
    assert "train.compile needs a C++ compiler, and there is no /nonexistent/g++ (CXX names it)" in errors
    assert "--set train.compile=false" in errors
    assert not (tmp_path / "runs").exists()


def test_a_compiler_that_fails_is_bad_input(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fail(self: Loop, *arguments: Any) -> None:
        raise TorchDynamoException("CppCompileError: broken\nand the compiler's whole output")

    monkeypatch.setattr(Loop, "_step", fail)
    assert pretrain("--recipe", str(recipe)) == 2
    errors = capsys.readouterr().err
    assert (
        "error: train.compile failed: TorchDynamoException: CppCompileError: broken; nothing was trained yet" in errors
    )
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_disk_that_cannot_hold_the_checkpoints_is_refused(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """The estimate is no larger than what a checkpoint takes, and not much smaller."""
    from barlowctl.assemble import launch

    asked_about = []
    monkeypatch.setattr(launch, "free_bytes", lambda place: asked_about.append(place) or 2**40)
    assert pretrain("--recipe", str(recipe), "--out", "runs/a", "--quiet", "--set", "train.epochs=1") == 0
    [one] = (tmp_path / "runs/a/checkpoints").iterdir()
    size = sum((one / f"{name}.safetensors").stat().st_size for name in ("model", "optimizer"))
    monkeypatch.setattr(launch, "free_bytes", lambda place: 3 * size)
    assert pretrain("--recipe", str(recipe), "--out", "runs/b", "--quiet", "--set", "train.epochs=1") == 0
    many = ("--set", "train.epochs=1", "--set", "train.keep_checkpoints=1000000")  # all: no more than are written
    assert pretrain("--recipe", str(recipe), "--out", "runs/all", "--quiet", *many) == 0
    monkeypatch.setattr(launch, "free_bytes", lambda place: 2.8 * size)
    assert pretrain("--recipe", str(recipe), "--out", "runs/c", "--set", "train.keep_checkpoints=2") == 2
    assert "the run keeps 2 checkpoints and writes another beside them" in capsys.readouterr().err
    assert not (tmp_path / "runs/c").exists()
    assert asked_about == [Path("runs/a")]


def test_a_run_that_goes_on_is_not_sent_to_another_place_by_a_full_disk(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Where it lies and what it keeps are settled: `--out` and another train.keep_checkpoints are refused with it."""
    from barlowctl.assemble import launch

    monkeypatch.setattr(launch, "free_bytes", lambda place: 4096)
    before = sorted(stopped.rglob("*"))
    assert pretrain("--resume", "runs/a") == 2
    errors = capsys.readouterr().err
    assert errors.endswith("or more\nnext: free space or make it writable, then go on\n")
    assert sorted(stopped.rglob("*")) == before
    monkeypatch.setattr(launch, "free_bytes", lambda place: 2**40)
    assert pretrain("--resume", "runs/a", "--quiet") == 0


@pytest.mark.parametrize("crop", ["40", "64"])
def test_a_crop_that_the_network_cannot_take_is_refused_before_images_are_read(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, crop: str
) -> None:
    from barlowctl.data.loaders.base import ViewLoader

    def computed(self: ViewLoader, *arguments: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(ViewLoader, "__init__", computed)
    settings = ["--set", f"eval.resize={crop}", "--set", f"eval.crop={crop}"]
    for command in (["probe", "vit_tiny_patch16_224"], ["embed", "vit_tiny_patch16_224", "digits", "--out", "a.npz"]):
        data = ["--data", "digits"] if command[0] == "probe" else []
        assert barlowctl([*command, *data, *settings]) == 2
        errors = capsys.readouterr().err
        assert f"does not take images of {crop}x{crop}: Input height ({crop}) doesn't match model (224)" in errors
        assert "--set eval.crop=224" in errors


def files_in_the_way(trained: Path, file: Path) -> dict[str, list[str]]:
    run, below = str(trained), str(file / "below")
    return {
        "pretrain": ["pretrain", "--recipe", str(trained / "recipe.toml"), "--threads", "1", "--out", below],
        "probe": ["probe", run, "--out", below],
        "transfer": ["transfer", run, "--data", "digits", "--out", below],
        "embed": ["embed", run, "digits", "--out", f"{below}.npz"],
        "embed map": ["embed", run, "digits", "--map", f"{below}.png"],
        "embed neighbours": ["embed", run, "digits", "-n", "3", "--neighbours-out", f"{below}.png"],
        "report": ["report", run, "--out", f"{below}.html"],
        "export": ["export", run, "--out", f"{below}.safetensors"],
        "export hub": ["export", run, "--format", "hub", "--out", below],
        "ablate": ["ablate", "--loss", "--recipe", str(trained / "recipe.toml"), "--out", below],
    }


@pytest.mark.parametrize("command", files_in_the_way(Path(), Path()))
def test_a_file_in_the_place_of_a_folder_is_seen_before_anything_is_computed(
    recipe: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, command: str
) -> None:
    from barlowctl.data.loaders.base import ViewLoader

    def computed(self: ViewLoader, *arguments: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(ViewLoader, "__init__", computed)
    (tmp_path / "file").write_text("")
    assert barlowctl(files_in_the_way(trained, tmp_path / "file")[command]) == 2
    errors = capsys.readouterr().err
    assert "cannot be written" in errors
    assert "file" in errors


def test_a_number_is_not_lost_with_its_files(
    recipe: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from barlowctl.eval import classes
    from barlowctl.runs import rundir

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rundir, "write_json", full)
    monkeypatch.setattr(classes, "write_tables", full)
    assert barlowctl(["probe", str(trained), "--knn", "--json", "--threads", "1"]) == 2
    out, errors = capsys.readouterr()
    result = json.loads(out)
    assert result["knn"]["top1"] > 30
    assert result["file"] is None
    assert len(result["not_written"]) == 2
    assert errors.count("No space left on device") == 1
    assert "' and 1 more file cannot be written (" in errors


def test_neighbours_are_not_lost_with_their_picture(
    recipe: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from barlowctl.measure import embedding

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedding, "draw_neighbours", full)
    assert barlowctl(["embed", str(trained), "digits", "-n", "3", "--top", "2", "--json", "--threads", "1"]) == 2
    out, errors = capsys.readouterr()
    assert len(json.loads(out)["neighbours"][0]["neighbours"]) == 2
    assert "'neighbours.png' cannot be written: No space left on device" in errors


# ---- leaving ---------------------------------------------------------------------------------------------


def test_an_abort_is_said_with_a_documented_code(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from barlowctl.cli.app import EPILOG
    from barlowctl.recipe import catalog

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog, "shipped", interrupted)
    assert barlowctl(["recipes", "list"]) == 130
    assert capsys.readouterr().err.startswith("aborted: ")
    assert "130" in EPILOG


@pytest.mark.parametrize("option", ["--threads", "--protocol", "--set"])
def test_a_very_long_value_does_not_hide_the_rest_of_an_error(option: str, capsys: Captured) -> None:
    assert barlowctl(["probe", f"{option}={'x' * 5000}", "no-such-run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "xxx... (5,0" in error
    assert len(error) < 1000


@pytest.mark.parametrize("command", ["ablate --loss --dry-run", "probe", "transfer"])
def test_a_number_of_seeds_beyond_all_counting_is_refused(command: str, capsys: Captured) -> None:
    assert barlowctl([*command.split(), "--seeds", "9" * 21]) == 2
    assert "allowed: a whole number, 1 to 10,000" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)])
def test_an_end_by_a_signal_is_said_and_leaves_nothing_behind(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from barlowctl.cli.app import EPILOG, main
    from barlowctl.data.beton.writer import BetonWriter

    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    monkeypatch.setattr("barlowctl.cli.app.open_streams", lambda: None)  # pytest's have no number
    monkeypatch.setattr(BetonWriter, "finish", lambda *arguments, **options: signal.raise_signal(number))
    before = {number: signal.getsignal(number) for number in STOPPING}
    signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["data", "pack", str(tmp_path / "images"), str(tmp_path / "a.beton")])
    finally:
        for stopping, handler in before.items():  # all are ignored at the end of a process
            signal.signal(stopping, handler)
    assert ended.value.code == code
    assert capsys.readouterr().err.endswith(f"aborted by {signal.Signals(number).name}: no file is left half-written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert str(code) in EPILOG


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("named", [True, False])
def test_a_disk_that_is_full_or_fails_is_no_internal_error(
    number: int, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from barlowctl.recipe import catalog

    def failing() -> None:
        raise OSError(number, os.strerror(number), *([str(tmp_path / "a.csv")] if named else []))

    monkeypatch.setattr(catalog, "shipped", failing)
    assert barlowctl(["recipes", "list"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {repr(str(tmp_path / 'a.csv')) if named else 'a file'} cannot be ")
    assert os.strerror(number) in error
    assert ("there is room for" in error) == (named and number == errno.ENOSPC)
    assert error.endswith("next: barlowctl recipes list\n")


def test_what_a_killed_process_left_is_cleared_up(stopped: Path) -> None:
    for folder in (stopped, stopped / "checkpoints", stopped / "diagnostics"):
        folder.mkdir(exist_ok=True)
        (folder / ".partial-step-00000010-1a2b3c4d").mkdir()
        (folder / ".partial-step-00000010-1a2b3c4d" / "model.safetensors").write_bytes(b"half")
    assert pretrain("--resume", "runs/a", "--quiet") == 0
    assert list(stopped.rglob(".partial-*")) == []


def test_a_run_that_was_moved_away_goes_on_where_it_is(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """It gets no second directory, which would look like a run and be none."""
    make = Loop._step

    def moving(self: Loop, *arguments: Any) -> None:
        make(self, *arguments)
        if self.progress.step == 13:
            os.rename("a", "b")

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", moving)
        assert pretrain("--recipe", str(recipe), "--out", "a") == 2
    error = capsys.readouterr().err
    assert "'a' is not there any more" in error
    assert not (tmp_path / "a").exists()
    assert pretrain("--resume", "b", "--quiet") == 0
    assert json.loads((tmp_path / "b" / "result.json").read_text())["steps"] == 20


def test_a_run_that_is_only_being_made_is_not_listed(stopped: Path, capsys: Captured) -> None:
    shutil.copytree(stopped, stopped.with_name(".partial-b-1a2b3c4d"))
    assert barlowctl(["runs", "list"]) == 0
    output = capsys.readouterr().out
    assert "partial" not in output
    assert " a " in output


def test_a_run_that_leaves_nothing_is_not_to_be_resumed(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Neither its first record nor a checkpoint could be written: the command is to be typed again."""

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sinks, "open", full, raising=False)
    monkeypatch.setattr(checkpoint, "_write", full)
    assert pretrain("--recipe", str(recipe), "--out", "new") == 2
    error = capsys.readouterr().err
    assert "'new/metrics.jsonl' cannot be written: No space left on device: there is room for " in error
    assert "--resume" not in error
    assert f"next: barlowctl pretrain --threads 1 --recipe {recipe} --out new\n" in error
    assert not (tmp_path / "new").exists()


def test_a_rank_that_is_lost_before_a_new_run_has_a_step_leaves_the_command_to_type_again(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def lost(*arguments: Any, **options: Any) -> None:
        raise RankLost("rank 0 of 2 stopped: rank 1 is gone or does not answer")

    monkeypatch.setattr(launch, "pretrain", lost)
    assert pretrain("--recipe", str(recipe), "--out", "new") == 4
    assert f"next: barlowctl pretrain --threads 1 --recipe {recipe} --out new\n" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_run_is_continued_with_the_flags_that_it_was_started_with_last(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """What is told to be typed: threads, loader and monitors are in no recipe."""
    flags = ["--device", "cpu", "--workers", "2", "--loader", "plain", "--rank-timeout", "60", "--tensorboard"]
    monkeypatch.setattr(Loop, "_step", stopping_after(3))
    assert pretrain("--recipe", str(recipe), "--out", "runs/a", "--quiet", *flags) == 3
    typed = ["--device", "cpu", "--threads", "1", *flags[2:]]
    assert f"next: barlowctl pretrain --resume runs/a {' '.join(typed)}\n" in capsys.readouterr().err
    monkeypatch.setattr(Loop, "_step", stopping_after(6))
    assert barlowctl(["pretrain", "--resume", "runs/a", "--quiet"]) == 3
    threads = "--threads 1"  # which OMP_NUM_THREADS says here
    assert f"next: barlowctl pretrain --resume runs/a {threads}\n" in capsys.readouterr().err
    assert barlowctl(["runs", "show", "a"]) == 0
    assert capsys.readouterr().out.endswith(f"next: barlowctl pretrain --resume {Path('runs/a').resolve()} {threads}\n")


def test_the_exit_code_holds_with_a_traceback_too(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("BARLOWCTL_DEBUG", "1")
    assert pretrain("--recipe", str(recipe), "--set", "train.epoch=3") == 2
    errors = capsys.readouterr().err
    assert "Traceback (most recent call last)" in errors
    assert "error: " in errors
