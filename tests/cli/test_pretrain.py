"""`barlowctl pretrain` as a user meets it: a run, its files, resuming, refusals."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from barlowctl.assemble import plan as assemble_plan
from barlowctl.assemble.model import SEARCHING
from barlowctl.cli.app import run as barlowctl
from barlowctl.cli.live import binary_size
from barlowctl.train.loop import Loop
from tests.cli.test_endings import stopping_after

Captured = pytest.CaptureFixture[str]


def last_json(capsys: Captured) -> dict[str, Any]:
    """Standard output as one JSON document: anything else on it fails here."""
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def pretrain(recipe: Path, *arguments: str) -> int:
    return barlowctl(["pretrain", "--recipe", str(recipe), "--threads", "1", *arguments])


def refused(capsys: Captured, code: int) -> str:
    assert code == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.removeprefix(f"{SEARCHING}\n").startswith("error: ")  # a wait is said on a busy machine
    assert "next: " in captured.err
    return captured.err


def test_a_run_leaves_everything_that_explains_it(recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    assert pretrain(recipe, "--json", "--out", "runs/first") == 0
    result = last_json(capsys)
    assert {"run", "epochs", "loss", "images_per_second", "cpu_seconds"} <= set(result)
    run = tmp_path / "runs" / "first"
    assert result["run"] == "runs/first"
    assert json.loads((run / "result.json").read_text()) == {**result, "run": str(run)}
    about = json.loads((run / "run.json").read_text())
    assert about["packages"]["torch"]
    assert about["data"]["images"] == 1400
    assert len(about["data"]["content_hash"]) == 64
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["event"] for record in records].count("epoch") == 2
    step = next(record for record in records if record["event"] == "step")
    assert {"loss", "invariance", "redundancy", "lr_weights", "lr_biases", "images_per_second", "data_wait"} <= set(
        step
    )
    evaluation = [record for record in records if record["event"] == "evaluation"][-1]
    assert {"knn", "feature_spread", "embedding_spread", "effective_rank", "alpha", "rankme"} <= set(evaluation)
    assert 0.0 < evaluation["mean_diagonal"] <= 1.0
    assert 0.0 < evaluation["rms_off_diagonal"] < 1.0
    spectra = sorted((run / "diagnostics").iterdir())
    assert [file.name for file in spectra] == ["step-00000010.safetensors", "step-00000020.safetensors"]
    saved = load_file(spectra[-1])
    assert saved["singular_values"].shape == (64,)
    assert saved["block"].diagonal().mean() == pytest.approx(evaluation["mean_diagonal"], abs=1e-4)
    assert evaluation["knn"] > 30.0  # ten classes
    assert not list(run.rglob("*.pt")) + list(run.rglob("*.pkl"))
    # the saved recipe is complete, and is the run
    assert pretrain(run / "recipe.toml", "--json", "--out", "runs/again") == 0
    again = last_json(capsys)
    assert again["loss"] == result["loss"]


def test_an_interrupted_run_resumes_bit_identically(
    recipe: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the middle: exit code 3, then the weights of a run that was never stopped.

    A process that is stopped so, and another one that goes on, are in test_slurm.py.
    """
    flags = ["--threads", "1", "--quiet"]
    start = ["pretrain", "--recipe", str(recipe), *flags, "--set", "train.epochs=4", "--set", "eval.every_epochs=0"]
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", stopping_after(13))
        assert barlowctl([*start, "--out", "runs/parts"]) == 3
    metrics = tmp_path / "runs" / "parts" / "metrics.jsonl"
    assert "--resume" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "parts" / "result.json").exists()
    assert barlowctl(["pretrain", *flags, "--resume", "runs/parts"]) == 0
    assert barlowctl([*start, "--out", "runs/whole"]) == 0
    for name in ("model.safetensors", "optimizer.safetensors"):
        parts, whole = (
            next((tmp_path / "runs" / run / "checkpoints").glob(f"*40/{name}")) for run in ("parts", "whole")
        )
        assert parts.read_bytes() == whole.read_bytes()
    steps = [json.loads(line) for line in metrics.read_text().splitlines()]
    logged = [record["step"] for record in steps if record["event"] == "step"]
    assert logged == sorted(set(logged))  # no step is recorded twice


def test_a_run_is_never_overwritten(recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "mine").mkdir()
    message = refused(capsys, pretrain(recipe, "--out", "mine"))
    assert "never overwritten" in message
    assert list((tmp_path / "mine").iterdir()) == []


def test_resume_refuses_another_recipe_and_shows_the_difference(recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    from barlowctl.recipe import load

    (run / "recipe.toml").write_text(load.dump(load.load(str(recipe))))
    code = barlowctl(["pretrain", "--resume", str(run), "--set", "train.epochs=9"])
    assert "train.epochs: 2 in the run, 9 now" in refused(capsys, code)
    code = barlowctl(["pretrain", "--resume", str(run)])
    assert "run.json" in refused(capsys, code)
    code = barlowctl(["pretrain", "--resume", str(tmp_path / "nothing")])
    assert "is not a run" in refused(capsys, code)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "model.backbone=resnet10tt"], "resnet10t"),
        (["--set", "train.batch_size=5000"], "not one batch"),
        (["--set", "data.holdout=0"], "--set data.holdout=140"),
        (["--set", "data.holdout=1399"], "data.holdout"),
        (["--set", "data.holdout=9000"], "data.holdout is 9000 of 1,400 images"),
        (["--set", "data.dataset=digit"], "digits"),
        (["--data", "nowhere"], "nowhere"),
        (["--device", "tpu"], "auto, cpu, cuda"),
        (["--loader", "quick"], "auto, fast, plain"),
        (["--set", "model.backbone_args={in_chans = 3}"], "in_chans"),
        (["--set", "model.backbone=vit_tiny_patch16_224", "--set", "model.backbone_args={}"], "model.image_size"),
        (
            ["--set", "model.stem=cifar", "--set", "model.backbone=convnext_atto", "--set", "model.backbone_args={}"],
            "stem",
        ),
        (["--epochs", "3"], "--epochs"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    recipe: Path, tmp_path: Path, capsys: Captured, arguments: list[str], says: str
) -> None:
    message = refused(capsys, pretrain(recipe, *arguments))
    assert says in message
    assert not (tmp_path / "runs").exists()


def test_errors_are_one_json_document_too(recipe: Path, capsys: Captured) -> None:
    assert pretrain(recipe, "--json", "--set", "train.epoch=3") == 2
    document = last_json(capsys)
    assert "train.epochs" in document["error"]
    assert document["next"]


def test_without_a_recipe_and_a_terminal_the_command_is_named(capsys: Captured) -> None:
    message = refused(capsys, barlowctl(["pretrain"]))
    assert "no recipe was named" in message
    assert "barlowctl pretrain --recipe quickstart" in message


def test_a_dry_run_says_what_would_be(recipe: Path, tmp_path: Path, capsys: Captured) -> None:
    assert pretrain(recipe, "--dry-run", "--json") == 0
    plan = last_json(capsys)
    assert plan["images"] == 1400
    assert plan["steps_per_epoch"] == 10  # 1,400 less 100 held out, batches of 128, the rest dropped
    assert plan["steps"] == 20
    assert plan["peak_learning_rates"]["weights"] == pytest.approx(1e-3)
    assert plan["memory"]["total"] > 0
    assert plan["rate"]["seconds"] > 0
    assert "steps of 128 images" in plan["rate"]["source"]  # small views are timed at the batch they train with
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_beforehand_what_timing_a_large_network_takes(
    recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten gigabytes and minutes, of PIRL with a projector of 8,192 for nine patches at once."""
    texts: list[str] = []

    def measure_rate(*_: object) -> tuple[float, str]:
        texts.append(capsys.readouterr().err)
        return 1.0, "measured"

    monkeypatch.setattr(assemble_plan, "measure_rate", measure_rate)
    weights = 26_770 + 6_272
    for large, times in ((16 * weights, 1), (17 * weights, 0)):  # four bytes of each: adamw has two, and the gradient
        monkeypatch.setattr(assemble_plan, "LARGE", large)
        assert pretrain(recipe, "--dry-run", "--json") == 0
        text = texts.pop()
        assert text.count("steps of 33,042 parameters are timed here, which takes 0.00049 GiB of memory") == times


def test_memory_is_said_in_a_unit_that_shows_it() -> None:
    assert binary_size(312 * 2**20) == "312 MiB"
    assert binary_size(3 * 2**29) == "1.5 GiB"


def test_a_dry_run_needs_no_data_where_its_size_is_published(recipe: Path, capsys: Captured) -> None:
    small = [
        "--set",
        "train.batch_size=8",
        "--set",
        "model.projector=[64]",
        "--set",
        "views.size=32",
        "--set",
        "eval.crop=32",
    ]
    code = barlowctl(["pretrain", "--recipe", "resnet50", "--dry-run", "--json", "--threads", "1", *small])
    assert code == 0
    plan = last_json(capsys)
    assert plan["images"] == 1_281_167
    assert plan["steps_per_epoch"] == 160_146
    assert "barlowctl data pack" in plan["facts"]["data"]


def test_the_papers_recipe_takes_two_steps_on_an_imagenet_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """resnet50 on a small folder with train/ and val/: real JPEGs, both loaders' way in, one CPU."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for number, wnid in enumerate(("n01440764", "n01443537")):
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for image in range(4):
                pixels = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
                picture = Image.fromarray(pixels).resize((120, 90))
                picture.save(folder / f"{wnid}_{number}{image}.JPEG", quality=90)
    monkeypatch.chdir(tmp_path)
    sets = {
        "train.batch_size": 4,
        "train.epochs": 1,
        "train.warmup_epochs": 0,
        "views.size": 32,
        "eval.resize": 36,
        "eval.crop": 32,
        "model.projector": [128, 128, 128],
        "train.precision": "bf16",
        "train.log_every_steps": 1,
    }
    overrides = [text for key, value in sets.items() for text in ("--set", f"{key}={value}")]
    command = ["pretrain", "--recipe", "resnet50", "--data", "imagenet", "--out", "run", "--json", "--threads", "1"]
    assert barlowctl([*command, *overrides]) == 0
    result = last_json(capsys)
    assert result["steps"] == 2
    assert 0.0 <= result["knn"] <= 100.0  # the val split was found


def test_a_dry_run_for_several_devices_names_the_time_of_one_and_of_all(recipe: Path, capsys: Captured) -> None:
    assert pretrain(recipe, "--dry-run", "--gpus", "2") == 0
    text = " ".join("".join(capsys.readouterr()).split())
    assert re.search(r" time +\S.* on this device alone, at the least \S.* on 2 like it; at ", text)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_missing_val_split_is_said(
    as_file: bool, recipe: Path, digits: Path, tmp_path: Path, capsys: Captured
) -> None:
    """The run goes on with the diagnostics, and says why there is no kNN; its dry run has said so too."""
    alone = tmp_path / "alone" / "train.beton"
    alone.parent.mkdir()
    shutil.copy(digits / "digits" / "train.beton", alone)
    data = str(alone if as_file else alone.parent)
    arguments = ["--data", data, "--set", "eval.queries=val", "--set", "train.epochs=1", "--json"]
    assert pretrain(recipe, "--dry-run", *arguments) == 0
    note = json.loads(capsys.readouterr().out)["facts"]["note"]
    assert pretrain(recipe, *arguments) == 0
    captured = capsys.readouterr()
    assert f"note: {note}\n" in captured.err
    assert "no online kNN" in captured.err
    result = json.loads(captured.out)
    assert result["knn"] is None
    assert result["knn_reason"] in captured.err
    assert result["effective_rank"] > 1.0


@pytest.mark.parametrize("loader", ["fast", "plain"])
def test_damaged_images_stop_the_run_or_are_replaced_as_the_recipe_says(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], loader: str
) -> None:
    from sklearn.datasets import load_digits

    from barlowctl.data.beton.layout import JPEG
    from barlowctl.data.beton.writer import BetonWriter
    from tests.data.views_double import jpeg

    images = np.repeat((load_digits().images[:300] * 15.9).astype(np.uint8)[..., None], 3, axis=3)
    with BetonWriter(tmp_path / "damaged.beton", len(images)) as writer:
        for number, image in enumerate(images):
            data = jpeg(image)
            payload = data[: len(data) // 2] if number == 7 else data
            writer.append(payload, mode=JPEG, width=8, height=8, label=0)
        writer.finish(channels=1)
    flags = ["--recipe", str(recipe), "--data", str(tmp_path / "damaged.beton"), "--loader", loader, "--threads", "1"]
    values = ("train.epochs=1", "data.holdout=0", "data.drop_last=false", "eval.queries=off", "eval.every_epochs=0")
    flags += [part for value in values for part in ("--set", value)]
    assert barlowctl(["pretrain", *flags]) == 2
    assert "sample 7" in capsys.readouterr().err
    assert barlowctl(["pretrain", *flags, "--set", "data.on_unreadable=replace", "--json"]) == 0
    written = capsys.readouterr()
    assert "images that could not be read and were replaced: 1 (sample 7)" in written.err
    assert '"replaced": 1' in written.out


def test_the_first_lines_say_how_pictures_are_shown_and_warn_of_a_corner(
    recipe: Path, capsys: Captured, tmp_path: Path
) -> None:
    corner = ("--set", "views.size=16", "--set", "eval.resize=64", "--set", "eval.crop=16")
    assert pretrain(recipe, *corner, "--set", "train.epochs=1", "--set", "eval.every_epochs=0", "--out", "corner") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["measuring"].endswith("shorter side to 64 pixels, centre 16 x 16")
    assert lines["views"].endswith(" 2 of 16 pixels")
    assert "central 16 of 64 pixels, 6.2 % of a square" in lines["warning"]
    assert "--set eval.resize=18 --set eval.crop=16" in lines["warning"]
    assert barlowctl(["probe", "corner", "--knn", "--threads", "1"]) == 0
    assert "note: evaluation shows the central 16 of 64 pixels" in capsys.readouterr().out
    assert barlowctl(["probe", "corner", "--knn", "--set", "eval.resize=18", "--set", "eval.crop=16"]) == 0
    assert "of a square" not in capsys.readouterr().out
    assert barlowctl(["export", "corner", "--out", str(tmp_path / "m.safetensors")]) == 0
    assert "central 16 of 64 pixels" in capsys.readouterr().out
    assert pretrain(recipe, "--dry-run", "--json", *corner) == 0
    assert "6.2 % of a square" in last_json(capsys)["facts"]["warning"]


def test_an_online_linear_probe_is_measured_and_changes_nothing(recipe: Path, capsys: Captured) -> None:
    assert pretrain(recipe, "--json", "--out", "runs/without") == 0
    without = last_json(capsys)
    assert (
        pretrain(recipe, "--json", "--out", "runs/with", "--set", "eval.linear=true", "--set", "eval.linear_lr=0.01")
        == 0
    )
    with_it = last_json(capsys)
    assert with_it["linear"] > 30.0  # ten classes
    assert "linear" not in without
    changing = {"run", "finished", "linear", "images_per_second", "data_wait", "cpu_seconds", "wall_seconds"}
    assert {key: value for key, value in with_it.items() if key not in changing} == {
        key: value for key, value in without.items() if key not in changing
    }
    weights = [
        Path(run, "checkpoints", "step-00000020", "model.safetensors").read_bytes()
        for run in ("runs/with", "runs/without")
    ]
    assert weights[0] == weights[1]
    assert pretrain(recipe, "--set", "eval.linear=true", "--set", "eval.queries=off") == 2
    assert "nothing asks the classifier" in capsys.readouterr().err


def test_values_are_called_by_words_in_the_last_table_and_in_the_runs_own(recipe: Path, capsys: Captured) -> None:
    short = ["--set", "train.epochs=1", "--threads", "1"]
    assert barlowctl(["pretrain", "--recipe", str(recipe), "--out", "runs/a", *short]) == 0
    out = capsys.readouterr().out
    table = out[out.index("\n  result") :].partition("\nrun: ")[0]
    names = [line[2:].rstrip().rsplit("  ", 1)[0].strip() for line in table.splitlines()]
    assert [name for name in names if name and "──" not in name] == [
        "result", "epochs", "steps", "loss", "kNN", "feature spread", "effective rank", "images/s", "CPU seconds",
    ]  # fmt: skip
    assert barlowctl(["runs", "show", "runs/a"]) == 0
    names = re.findall(r"^ (\S+(?: \S+)*)  ", capsys.readouterr().out, re.MULTILINE)
    assert {"kNN", "feature spread", "embedding spread", "effective rank", "gradient norm", "lr"} <= set(names)
    assert not [name for name in names if "_" in name]
