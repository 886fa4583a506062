"""Advice that knows nothing of what was typed becomes the command to type next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from barlowctl.cli import app
from barlowctl.cli.advice import completed

ROOT = app.commands()


@pytest.mark.parametrize(
    ("typed", "advice", "expected"),
    [
        ("pretrain -r r.toml", "--set train.batch_size=2", "barlowctl pretrain -r r.toml --set train.batch_size=2"),
        ("pretrain --set a.b=1 --set c.d=2 -q", "--set a.b=3", "barlowctl pretrain --set c.d=2 -q --set a.b=3"),
        ("pretrain --set=a.b=1 --set=c.d=2", "--set a.b=3", "barlowctl pretrain --set c.d=2 --set a.b=3"),
        ("export runs/a -f hub --json", "--format timm", "barlowctl export runs/a --json --format timm"),
        ("export 'runs/a b'", "--format timm", "barlowctl export 'runs/a b' --format timm"),
        ("data info --verify 'a b.beton'", "without --verify", "barlowctl data info 'a b.beton'"),
        ("export runs/a -o x", "without --out", "barlowctl export runs/a"),
        ("ablate --set a.b=1 --loss --set c.d=2", "--recipe r without --set", "barlowctl ablate --loss --recipe r"),
        (
            "probe a --set lr=3 --set x=1",
            "--set lr_head=3 without --set=lr=3",
            "barlowctl probe a --set x=1 --set lr_head=3",
        ),
        ("probe a --set lr=3 --set x=1", "without --set=lr=3", "barlowctl probe a --set x=1"),
        (
            "transfer a --init b --init c --init=d",
            "--init c/e without --init=c",
            "barlowctl transfer a --init b --init d --init c/e",
        ),
        ("embed a --patches b --patches c", "--patches b.png", "barlowctl embed a --patches b.png"),
        ("pretrain --init b", "--init c/e without --init=b", "barlowctl pretrain --init c/e"),
        (
            "pretrain --slurm-option partition=a --slurm-option time=1",
            "--slurm-option partition=gpu",
            "barlowctl pretrain --slurm-option time=1 --slurm-option partition=gpu",
        ),
        ("probe a --knn", "--data a without a", "barlowctl probe --knn --data a"),
        ("embed --neighbours a a", "--data a without a", "barlowctl embed --neighbours a --data a"),
        ("embed -o x -- -a=1", "without --out", "barlowctl embed -- -a=1"),
        ("ablate --print-sbatch", "--show without --print-sbatch", "barlowctl ablate --show"),
        ("probe 'a b' --knn", "barlowctl ...", "barlowctl probe 'a b' --knn"),
        ("pretrain -q", "torchrun -m barlowctl ...", "torchrun -m barlowctl pretrain -q"),
        (  # a begun run keeps its recipe, and its place
            "pretrain --resume 'a b' --threads 1",
            "--set train.micro_batch=4",
            "barlowctl pretrain --threads 1 --recipe 'a b/recipe.toml' --set train.micro_batch=4",
        ),
        ("pretrain -r r.toml --out /", "--set seed=1", "barlowctl pretrain -r r.toml --set seed=1"),
        ("pretrain -r r.toml -o /", "--set seed=1", "barlowctl pretrain -r r.toml --set seed=1"),
        ("pretrain --set 'a.b=[0]' -q", "without '--set=a.b=[0]'", "barlowctl pretrain -q"),
        ("pretrain --set 'a.b=é\n' -q", "without $'--set=a.b=\\xc3\\xa9\\x0a'", "barlowctl pretrain -q"),
        ("pretrain --set 'a.b=[0]' -q", "--set c=2 without '--set=a.b=[0]'", "barlowctl pretrain -q --set c=2"),
        (
            "pretrain --set train.epoch=20 --out /",
            "--set train.epochs=20 without --set=train.epoch=20",
            "barlowctl pretrain --set train.epochs=20",
        ),
        (
            "pretrain --resume a --set train.epoch=20",
            "--set train.epochs=20 without --set=train.epoch=20",
            "barlowctl pretrain --recipe a/recipe.toml --set train.epochs=20",
        ),
        ("pretrain -r r.toml --out /new", "--set seed=1", "barlowctl pretrain -r r.toml --out /new --set seed=1"),
        ("probe a", "--set lr_head=0.03", "barlowctl probe a --set lr_head=0.03"),
        ("probe a", "--set train.epochs=3", "barlowctl probe --help"),  # a recipe's key is none of probe's
        ("probe a", "--set eval.crop=32", "barlowctl probe a --set eval.crop=32"),
        ("data info a", "--format timm", "barlowctl data info --help"),  # no flag of this command
        ("data info a", "--format timm\nbarlowctl doctor", "barlowctl doctor"),
        ("data pack a b", "--overwrite\nls", "barlowctl data pack a b --overwrite\nls"),
        ("data pack a b --resize 9 -- -c", "--overwrite", "barlowctl data pack a b --resize 9 --overwrite -- -c"),
        ("data pack a b", "remove it", "remove it"),
        ("data pack a b", None, "barlowctl data pack --help"),
        ("runs list", None, "barlowctl runs list --help"),
        ("pretrain", "--set a.b=1 --set c.d=2 --set a.b=3", "barlowctl pretrain --set c.d=2 --set a.b=3"),
        (
            "pretrain --set a.b=1 --set a.b=2 --quiet",
            "--set c.d=3",
            "barlowctl pretrain --set a.b=2 --quiet --set c.d=3",
        ),
        ("pretrain --threads 1 -q --threads 2", "--set c.d=3", "barlowctl pretrain -q --threads 2 --set c.d=3"),
        ("transfer a --init b --init c", "--seeds 3", "barlowctl transfer a --init b --init c --seeds 3"),
        ("probe a a", "--threads 3", "barlowctl probe a a --threads 3"),
    ],
)
def test_advice_becomes_a_command(typed: str, advice: str | None, expected: str) -> None:
    assert completed(advice, shlex.split(typed), ROOT) == expected


def test_under_a_launcher_the_flags_alone_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert completed("--set a.b=3", ["pretrain"], ROOT) == "--set a.b=3"
    monkeypatch.setenv("BARLOWCTL_EXIT_CODES", "/somewhere")  # ranks of --processes: the command is ours
    assert completed("--set a.b=3", ["pretrain"], ROOT) == "barlowctl pretrain --set a.b=3"


TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
            "MASTER_PORT": "29511", "TORCHELASTIC_RUN_ID": "a"}  # fmt: skip
SRUN = {"SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0",
        "SLURM_STEP_NODELIST": "gpu1"}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "before"),
    [
        (TORCHRUN, "torchrun --standalone --nproc-per-node 2 -m barlowctl"),
        (SRUN, "srun --nodes 1 --ntasks-per-node 2 barlowctl"),
        ({**SRUN, "SLURM_STEP_GPUS": "0,1"}, "srun --nodes 1 --ntasks-per-node 2 --gpus-per-node 2 barlowctl"),
        ({**TORCHRUN, "BARLOWCTL_EXIT_CODES": "/somewhere"}, "barlowctl"),
    ],
)
def test_the_same_command_has_the_launcher_that_started_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], before: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert completed("--set a.b=3", ["pretrain"], ROOT) == f"{before} pretrain --set a.b=3"
    assert completed("without --tensorboard", ["pretrain", "--tensorboard"], ROOT) == f"{before} pretrain"
    assert completed("barlowctl ...", ["pretrain", "-q"], ROOT) == f"{before} pretrain -q"
    assert completed("rm -r a && barlowctl ...", ["pretrain"], ROOT) == f"rm -r a && {before} pretrain"
    other = "torchrun --nproc-per-node 4 -m barlowctl"
    assert completed(f"{other} ...", ["pretrain"], ROOT) == f"{other} pretrain"
    assert completed("barlowctl doctor", ["pretrain"], ROOT) == "barlowctl doctor"
    assert completed("barlowctl ...", ["probe", "a"], ROOT, alone=True) == "barlowctl probe a"


def test_it_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["embed", "resnet18", "my photos"]) == 2
    assert "next: barlowctl embed resnet18 'my photos' --out features.npz\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "repeated_line"),
    [
        ("data pack a a --store raw", "barlowctl data pack a b --store raw --split val"),
        ("data pack --store raw -- a a", "barlowctl data pack --store raw --split val -- a b"),
        ("data pack a --range a a -q --split test", "barlowctl data pack a --range a b --split val"),
    ],
)
def test_the_last_name_can_be_another_one(typed: str, repeated_line: str) -> None:
    from barlowctl.cli import advice

    arguments = typed.split()
    _, command = advice.typed(arguments, ROOT)
    flags = ["--split", "val"]
    assert advice.repeated(arguments, command, flags=flags, without=["--quiet"], last=("a", "b")) == repeated_line


def test_a_new_run_with_other_values_starts_from_what_the_resumed_one_has_learned(tmp_path: Path) -> None:
    """It began at random, on the recipe's images, and what a week had trained was left behind."""
    run = tmp_path / "a"
    (run / "checkpoints" / "step-00000010").mkdir(parents=True)
    about = {"data": {"dataset": "/mine"}, "recipe": {"data": {"dataset": "theirs"}}}
    (run / "run.json").write_text(json.dumps(about))
    (run / "recipe.toml").write_text("")
    advice, words = "--set train.batch_size=63", ["pretrain", "--resume", str(run)]
    new = f"barlowctl pretrain --recipe {run}/recipe.toml"
    assert completed(advice, words, ROOT) == f"{new} --data /mine --init {run} {advice}"
    other = completed(advice, [*words, "--data", "here"], ROOT)
    assert other == f"barlowctl pretrain --data here --recipe {run}/recipe.toml --init {run} {advice}"
    (run / "checkpoints" / "step-00000010").rmdir()
    (run / "run.json").unlink()
    assert completed(advice, words, ROOT) == f"{new} {advice}"
