"""`barlowctl ablate --methods`: several methods under one budget, beside Table 1 and in the paper's figures."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from barlowctl.cli import completion
from barlowctl.cli.app import run as barlowctl
from barlowctl.recipe import load
from tests.cli.test_ablate import SHORT, Captured, document, start, wait_for

SIMSIAM = ("[objective]\nlambd = 0.02", '[objective]\nname = "simsiam"')
WIDER = ("crop_scale = [0.5, 1.0]", "crop_scale = [0.4, 1.0]")


@pytest.fixture
def study(recipe: Path) -> list[str]:
    """The command of a study with `digits-simsiam.toml`, which differs from `digits.toml` in loss, rate and crops."""
    text = recipe.read_text().replace(*SIMSIAM).replace(*WIDER).replace("lr = 2e-3", "lr = 1e-3", 1)
    text = text.replace("epochs = 2", "epochs = 7").replace("[64, 64]", "[32, 32]")
    recipe.with_name("digits-simsiam.toml").write_text(text)
    return ["ablate", "--recipe", "digits.toml", "--settings-of", "./digits", "--out", "study", *SHORT]


def steps_of_cells() -> dict[str, set[int]]:
    """Variant -> steps of its runs, of the study's finished cells."""
    steps: dict[str, set[int]] = {}
    for file in Path("study").rglob("cell.json"):
        run = json.loads(file.with_name("result.json").read_text())
        steps.setdefault(json.loads(file.read_text())["variant"], set()).add(run["steps"])
    return steps


def variants(plan: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Name -> key -> value of a plan's only study."""
    (only,) = plan["studies"]
    return {row["name"]: dict(change.split("=", 1) for change in row["overrides"]) for row in only["variants"]}


def test_methods_beside_table_1_with_one_budget(study: list[str], capsys: Captured) -> None:
    command = [*study, "--methods", "simsiam", "--budget", "images=768"]
    assert barlowctl([*command, "--json"]) == 0
    result = document(capsys)
    (table,) = result["studies"]
    rows = {row["variant"]: row for row in table["rows"]}
    assert {name: row["published_top1"] for name, row in rows.items()} == {"barlow-twins": 73.2, "simsiam": 71.3}
    assert rows["simsiam"]["linear_top1_difference"] == pytest.approx(
        rows["simsiam"]["linear_top1"] - rows["barlow-twins"]["linear_top1"]
    )
    assert table["note"].startswith("every variant is trained for 768 images; each method has its own settings")
    assert steps_of_cells() == {"barlow-twins": {6}, "simsiam": {6}}  # of 128 images
    (run,) = Path("study/cells").glob("simsiam-*/seed-0/recipe.toml")
    made = load.load(str(run))
    assert (made.objective.name, made.optimizer.lr, made.model.projector) == ("simsiam", 1e-3, (32, 32))
    assert made.views.first.crop_scale == (0.4, 1.0)
    assert made.train.batch_size == 128
    markdown = Path("study/methods.md").read_text()
    assert "| CPU seconds |" in markdown
    assert "| 71.3 |" in markdown
    assert "71.3 & " in Path("study/methods.tex").read_text()
    assert Path("study/methods.png").is_file()
    assert Path("study/methods.pdf").read_bytes().startswith(b"%PDF-")
    # the figure of the same methods shares the cells of their baselines
    assert barlowctl([*command, "--drop-aug", "--dry-run", "--json"]) == 0
    plan = document(capsys)
    assert [name for name in variants(plan) if name.startswith("simsiam.")] == [
        f"simsiam.{name}" for name in ("baseline", "no-grayscale", "no-color", "crop-and-blur", "crop-only")
    ]
    assert barlowctl([*command, "--show"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"simsiam +1/1 .* 71.3 +-1.9", output)


def test_a_plan_has_the_length_of_the_budget(
    study: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps of 128 images an epoch, each said to take 0.1 CPU-seconds."""
    monkeypatch.setattr("barlowctl.study.budget.time_step", lambda *_: 0.1)
    plan = [*study, "--methods", "simsiam", "--set", "data.holdout=100", "--budget", "cpu-seconds=4", "--dry-run"]
    assert barlowctl([*plan, "--json"]) == 0
    planned = document(capsys)
    for name, changes in variants(planned).items():
        assert float(changes["train.epochs"]) == pytest.approx(4.0), name
    assert planned["studies"][0]["note"].startswith("every variant is trained for ")
    assert variants(planned)["simsiam"]["objective.name"] == '"simsiam"'  # JSON has every value
    assert barlowctl(plan) == 0
    output = capsys.readouterr().out
    assert "settings of digits-simsiam.toml" in output
    assert "objective" not in output


@pytest.mark.slow
def test_cpu_seconds_are_timed_once_and_every_process_goes_by_them(study: list[str], capsys: Captured) -> None:
    """Killed in the first cell, gone on with by two processes: each cell is as long as the first command said."""
    command = [*study, "--methods", "simsiam", "--budget", "cpu-seconds=1", "--seeds", "2"]
    process = start(command)
    wait_for(process, lambda: list(Path("study/cells").glob("*/seed-0/metrics.jsonl")))
    process.kill()
    process.communicate()
    cpu_seconds = json.loads(Path("study/cpu-seconds.json").read_text())
    assert len(cpu_seconds) == 2
    assert all(0.0 < seconds < 1.0 for seconds in cpu_seconds.values())
    before = set(Path("study/cells").iterdir())
    assert barlowctl([*command, "--parallel", "2", "--json"]) == 0
    assert document(capsys)["finished"] == 4
    assert json.loads(Path("study/cpu-seconds.json").read_text()) == cpu_seconds
    assert set(Path("study/cells").iterdir()) == before
    steps = steps_of_cells()
    assert all(len(of_seeds) == 1 for of_seeds in steps.values())
    assert sorted(steps_of for of_variant in steps.values() for steps_of in of_variant) == sorted(
        max(1, int(1.0 / seconds)) for seconds in cpu_seconds.values()
    )


def test_a_folder_of_recipes_has_the_settings(study: list[str], capsys: Captured) -> None:
    Path("mine").mkdir()
    shutil.move("digits-simsiam.toml", "mine/simsiam.toml")
    study[study.index("./digits")] = "mine"
    assert barlowctl([*study, "--methods", "all", "--print-sbatch"]) == 0
    assert " --methods all --settings-of mine " in capsys.readouterr().out
    assert [folder.name.rpartition("-")[0] for folder in sorted(Path("study/cells").iterdir())] == [
        "barlow-twins",
        "simsiam",
    ]


@pytest.mark.parametrize(
    ("arguments", "says", "advice"),
    [
        (["--methods", "simsiam", "--lambd"], "'lambd' changes Barlow Twins itself", "drop-aug --methods simsiam"),
        (["--methods", "simsima"], "no method 'simsima', did you mean 'simsiam'", "--methods all"),
        (["--methods", "byol"], "no recipe of 'byol'", "recipes copy fashion-mnist-byol digits-byol.toml"),
        (["--methods", "all", "--settings-of", "./nobody"], "no recipes './nobody-METHOD'", "--settings-of "),
        (["--methods", "simsiam", "--budget", "steps"], "'' is no number of steps", "--budget images=200000"),
        (["--methods", "simsiam", "--budget", "images=5"], "less than one step of 'barlow-twins'", "--budget images="),
        (["--settings-of", "./digits"], "no study was named", "drop-aug"),
        (["--loss", "--settings-of", "./digits"], "--settings-of is of --methods", "--methods all"),
    ],
)
def test_what_cannot_be_compared_is_said(
    arguments: list[str], says: str, advice: str, study: list[str], capsys: Captured
) -> None:
    command = [*study, *arguments]
    if arguments.count("--settings-of"):  # once
        command = [word for word in study if word not in ("--settings-of", "./digits")] + arguments
    assert barlowctl([*command, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert advice in error[error.index("next: ") :]


def test_a_method_that_cannot_be_trained_is_named_with_its_recipe(study: list[str], capsys: Captured) -> None:
    """Settings that the base's images cannot have: views too small for the grid of patches are the person's to mend."""
    file = Path("digits-simsiam.toml")
    file.write_text(file.read_text().replace("[objective]", "[views.small]\ncount = 2\nsize = 8\n[objective]"))
    command = [*study, "--methods", "simsiam"]
    for more in (["--dry-run"], ["--budget", "cpu-seconds=3"]):
        assert barlowctl([*command, *more]) == 2
        assert "variant 'simsiam' (settings of digits-simsiam.toml): " in capsys.readouterr().err
    assert barlowctl(command) == 2
    assert "simsiam, seed 0: with the settings of digits-simsiam.toml: " in capsys.readouterr().err


def test_images_without_labels_are_no_study(study: list[str], capsys: Captured, tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "test"):
        (tmp_path / "unlabelled" / split).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (16, 16)).save(tmp_path / "unlabelled" / split / f"{number}.png")
    assert barlowctl([*study, "--methods", "simsiam", "--data", "./unlabelled"]) == 2
    assert "label" in capsys.readouterr().err


def test_costs_that_cannot_be_read_are_said(study: list[str], capsys: Captured) -> None:
    Path("study").mkdir()
    Path("study/cpu-seconds.json").write_text("{")
    command = [*study, "--methods", "simsiam", "--budget", "cpu-seconds=3", "--dry-run"]
    assert barlowctl(command) == 2
    error = capsys.readouterr().err
    assert "'study/cpu-seconds.json' cannot be read" in error
    assert "next: rm study/cpu-seconds.json && barlowctl ablate" in error


def test_batches_that_the_data_has_not_are_left_out_of_a_budget(study: list[str], capsys: Captured) -> None:
    """1,000 images: Figure 2's largest batches are none, and what leaves them out is said."""

    plan = [*study, "--methods", "barlow-twins,simsiam", "--batch-size", "--budget", "images=1300", "--dry-run"]
    assert barlowctl(plan) == 2
    error = capsys.readouterr().err
    assert "error: variant '1024': the data has 1,000 images, not one batch of 1,024; variant '2048': " in error
    too_large = ",".join(f"{method}{size}" for method in ("", "simsiam.") for size in (1024, 2048, 4096))
    assert f"--without {too_large}\n" in error
    assert barlowctl([*plan, "--json", "--only", "simsiam.256"]) == 0  # nor is what was not chosen asked for
    assert variants(document(capsys)).keys() == {"128", "simsiam.128", "simsiam.256"}


def test_a_batch_of_more_images_than_there_are_is_all_of_them(study: list[str], capsys: Captured) -> None:
    """1,400 images: Figure 2's batches of 2,048 and 4,096 are the same batch at other rates, which the plan says."""
    whole = ["--set", "data.drop_last=false", "--set", "data.holdout=0"]
    plan = [*study[:3], *study[5:], "--batch-size", *whole, "--dry-run", "--json"]
    assert barlowctl(plan) == 0
    (planned,) = document(capsys)["studies"]
    assert [note.split(":")[0] for note in planned["notes"]] == ["Note on 2048", "Note on 4096"]
    says = "a step has all 1,400 images, fewer than train.batch_size, 4,096, which the learning rates are for"
    assert planned["notes"][-1] == f"Note on 4096: {says}."
    seconds = {row["name"]: row["seconds"]["train"] for row in planned["variants"]}
    assert seconds["4096"] < 2 * seconds["512"]  # 1,400 images once, not 4,096
    assert barlowctl([*plan, "--only", "4096", "--budget", "images=4200"]) == 0
    assert float(variants(document(capsys))["4096"]["train.epochs"]) == 3.0


@pytest.mark.slow
def test_a_result_says_where_a_batch_was_all_images(study: list[str], capsys: Captured) -> None:
    sizes = ["--batch-size", "--only", "128,4096", "--set", "data.drop_last=false", "--set", "data.holdout=0"]
    command = [*study[:3], *study[5:], *sizes]
    assert barlowctl(command) == 0
    says = "a step has all 1,400 images, fewer than train.batch_size, 4,096, which the learning rates are for"
    assert f"Note on 4096: {says}." in " ".join(capsys.readouterr().out.split())


def test_names_are_completed() -> None:
    assert completion.methods("barlow-twins,sims") == ["barlow-twins,simsiam"]
    assert completion.methods("swa") == ["swav", "swav-multicrop"]
    assert completion.families("") == ["fashion-mnist", "resnet50"]
    assert "methods" in completion.studies("")
