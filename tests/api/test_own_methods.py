"""A method of somebody's, registered: trained by the engine as barlowctl's own, opened, and its mistakes named."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import barlowctl
from barlowctl import program
from barlowctl.api.training import pretrain
from barlowctl.cli import app
from barlowctl.methods import BarlowTwins
from barlowctl.recipe import load
from tests.api.own_methods import SOURCE, forget

Captured = pytest.CaptureFixture[str]
FP32 = {"train.precision": "fp32", "train.log_every_steps": 1, "train.checkpoint_every_steps": 3}
OWN = {"objective.name": "own-twins", "objective.args": {"lambd": 0.02}}


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that registers methods, imported."""
    file = tmp_path / "own_methods_of_mine.py"
    file.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    importlib.import_module("own_methods_of_mine")
    yield file
    forget()


def losses(run: Path, *names: str) -> list[list[float]]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [[record[name] for name in names] for record in records if "invariance" in record]


@pytest.mark.parametrize("more", [{}, {"train.micro_batch": 32}], ids=["whole", "micro-batches"])
def test_from_the_formula_it_learns_as_barlowctls_own(recipe: Path, module: Path, more: dict[str, int]) -> None:
    """The same weights are drawn, the same views: the same numbers, as far as sums of another order go."""
    ours = pretrain(recipe, overrides={**FP32, **more}, out="ours", threads=1)
    theirs = pretrain(recipe, overrides={**FP32, **more, **OWN}, out="theirs", threads=1)
    names = ("loss", "invariance", "redundancy")
    expected = losses(ours.path, *names)
    assert len(expected) == 20
    assert losses(theirs.path, *names)[0] == pytest.approx(expected[0], rel=1e-5)
    for numbers, own in zip(losses(theirs.path, *names), expected, strict=True):
        assert numbers == pytest.approx(own, rel=2e-2)
    assert theirs.recipe.objective.title == "Twins of mine"
    assert load.parse(load.dump(theirs.recipe)) == theirs.recipe
    about = json.loads((theirs.path / "run.json").read_text())
    sha256 = hashlib.sha256(module.read_bytes()).hexdigest()
    expected_record = {"name": "own-twins", "module": "own_methods_of_mine", "file": str(module), "sha256": sha256}
    assert about["method"] == expected_record
    assert about["recipe"]["objective"] == {"name": "own-twins", "args": {"lambd": 0.02, "fault": ""}}
    assert about["facts"]["objective"] == "own-twins, lambd 0.02 by the formula"
    assert "method" not in json.loads((ours.path / "run.json").read_text())


def test_a_resumed_run_comes_to_the_same_bits(recipe: Path) -> None:
    whole = pretrain(recipe, overrides={**FP32, **OWN}, out="whole", threads=1)
    steps = itertools.count()
    stopped = pretrain(recipe, overrides={**FP32, **OWN}, out="stopped", threads=1, stop=lambda: next(steps) == 7)
    assert not stopped.finished
    forget()
    importlib.import_module("own_methods_of_mine")
    resumed = pretrain(resume="stopped")
    states = [
        load_file(max((run.path / "checkpoints").glob("step-*")) / "model.safetensors") for run in (whole, resumed)
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert losses(whole.path, "loss") == losses(resumed.path, "loss")


def state(run: barlowctl.Run) -> dict[str, torch.Tensor]:
    return load_file(max((run.path / "checkpoints").glob("step-*")) / "model.safetensors")


def test_one_of_barlowctls_own_changed_takes_what_that_takes(recipe: Path) -> None:
    """A subclass without an `__init__`; with nothing changed it comes to the same bits."""

    @barlowctl.register_method("same-twins")
    class SameTwins(BarlowTwins):
        decorrelates = True

    twins = {"objective.name": "same-twins", "objective.args": {"lambd": 0.0125, "form": "gram"}}
    values = {**FP32, "train.epochs": 1}
    theirs = pretrain(recipe, overrides={**values, **twins}, out="theirs", threads=1)
    ours = pretrain(
        recipe, overrides={**values, "objective.lambd": 0.0125, "objective.form": "gram"}, out="ours", threads=1
    )
    assert all(torch.equal(state(theirs)[key], value) for key, value in state(ours).items())
    with pytest.raises(
        barlowctl.UserError, match=r"objective\.args\.form is 'x'\. Allowed: 'auto', 'primal' or 'gram'"
    ):
        barlowctl.build_method(recipe, overrides={**twins, "objective.args": {"form": "x"}})
    with pytest.raises(barlowctl.UserError, match=r"unknown key 'objective\.args\.lamdb', did you mean"):
        barlowctl.build_method(recipe, overrides={**twins, "objective.args": {"lamdb": 0.1}})


def test_distortions_of_ones_own_are_drawn_again_alike_when_a_run_is_resumed(recipe: Path) -> None:
    @barlowctl.register_method("noisy-twins")
    class NoisyTwins(BarlowTwins):
        def __init__(self, backbone, projector, *, noise: float = 0.1, ranks=barlowctl.methods.ALONE):  # type: ignore
            super().__init__(backbone, projector, ranks=ranks)
            self.noise = noise

        def embeddings(self, views):  # type: ignore
            return super().embeddings([view + self.noise * torch.randn_like(view) for view in views])

    noisy = {"objective.name": "noisy-twins", "train.micro_batch": 32, **FP32, "train.epochs": 1}
    whole = pretrain(recipe, overrides=noisy, out="whole", threads=1)
    steps = itertools.count()
    pretrain(recipe, overrides=noisy, out="stopped", threads=1, stop=lambda: next(steps) == 4)
    resumed = pretrain(resume="stopped")
    assert all(torch.equal(state(resumed)[key], value) for key, value in state(whole).items())
    quiet = pretrain(recipe, overrides={**noisy, "objective.args": {"noise": 0.0}}, out="quiet", threads=1)
    assert losses(quiet.path, "loss") != losses(whole.path, "loss")


def test_it_is_measured_exported_and_built_as_any(recipe: Path) -> None:
    run = pretrain(recipe, overrides={**FP32, **OWN, "train.epochs": 1}, out="own", threads=1)
    probed = run.probe(measures=["knn"])
    assert probed.knn is not None
    assert run.export("timm", "own.safetensors").max_abs_diff < 1e-4
    assert run.method().lambd == 0.02
    assert app.run(["report", "own", "--out", "own.html"]) == 0
    assert "Twins of mine" in Path("own.html").read_text() or "own-twins" in Path("own.html").read_text()
    backbone = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    method = barlowctl.build_method(recipe, backbone=backbone, overrides={**OWN, "model.projector": [32, 8]})
    views = [torch.randn(8, 1, 16, 16), torch.randn(8, 1, 16, 16)]
    assert method.backbone is backbone
    assert method(views)._fields == ("loss", "invariance", "redundancy")


@pytest.mark.slow
def test_a_study_varies_its_arguments(recipe: Path, capsys: Captured) -> None:
    """In processes of its own, which import the module as this one did."""
    Path("lambds.toml").write_text('[weak]\n"objective.args.lambd" = 0.0\n[strong]\n"objective.args.lambd" = 0.5\n')
    forget()
    words = ["--set", "train.epochs=1", "--set", "objective.name=own-twins", "--set", "train.precision=fp32"]
    study = ["ablate", "--grid", "lambds.toml", "--recipe", str(recipe), *words, "--seeds", "1", "--parallel", "2"]
    imports = ["--import", "own_methods_of_mine"]
    assert app.run([*imports, *study, "--threads", "1", "--out", "study"]) == 0, capsys.readouterr().err
    cells = {path.parent.parent.name: json.loads(path.read_text()) for path in Path("study").rglob("run.json")}
    assert {name.partition("-")[0]: cell["recipe"]["objective"]["args"]["lambd"] for name, cell in cells.items()} == {
        "weak": 0.0,
        "strong": 0.5,
    }


def test_a_study_says_which_cells_another_version_of_its_file_trained(
    recipe: Path, module: Path, capsys: Captured
) -> None:
    Path("lambds.toml").write_text('[weak]\n"objective.args.lambd" = 0.0\n[strong]\n"objective.args.lambd" = 0.5\n')
    words = ["--set", "train.epochs=1", "--set", "objective.name=own-twins", "--set", "train.precision=fp32"]
    study = ["ablate", "--grid", "lambds.toml", "--recipe", str(recipe), *words, "--threads", "1", "--out", "study"]
    assert app.run([*study, "--only", "weak"]) == 0
    written = capsys.readouterr()
    assert "another version" not in written.out + written.err
    before = hashlib.sha256(module.read_bytes()).hexdigest()[:8]
    module.write_text(SOURCE + "\n")
    now = hashlib.sha256(module.read_bytes()).hexdigest()[:8]
    forget()
    importlib.import_module("own_methods_of_mine")
    cell = next(Path("study").glob("cells/weak-*/seed-0"))
    for more in ([], ["--show"]):
        assert app.run([*study, *more]) == 0
        lines = capsys.readouterr().out.splitlines()
        note = next(number for number, line in enumerate(lines) if line.startswith("note: 1 cell (weak, seed 0) was"))
        assert lines[note + 1] == f"rm -r {cell}"
        of = f"the method 'own-twins' was of own_methods_of_mine.py with sha256 {before}, and is of {now} now"
        assert f"Note on weak: seed 0: {of}." in lines
        assert f"seed 0: {of}" in json.loads(Path("study/lambds.json").read_text())["rows"][0]["notes"]
    runs = [str(path) for path in sorted(Path("study").glob("cells/*/seed-0"))]
    assert app.run(["runs", "compare", *runs, "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["runs"][1]["changes"]
    assert changes == {"objective.args.lambd": 0.0, "method's file": f"another version ({before})"}
    shutil.rmtree(cell)
    assert app.run(study) == 0
    assert "version" not in capsys.readouterr().out


def test_a_study_does_not_go_on_with_a_cell_that_another_version_began(
    recipe: Path, module: Path, capsys: Captured
) -> None:
    """Nothing is trained before it says so: the cell would be half of one method, half of another."""
    Path("lambds.toml").write_text('[weak]\n"objective.args.lambd" = 0.0\n')
    words = ["--set", "objective.name=own-twins", "--set", "train.precision=fp32"]
    study = ["ablate", "--grid", "lambds.toml", "--recipe", str(recipe), *words, "--threads", "1", "--out", "study"]
    assert app.run([*study, "--set", "train.epochs=1"]) == 0
    cell = next(Path("study").glob("cells/weak-*/seed-0"))
    for name in ("cell.json", "result.json"):
        (cell / name).unlink()
    module.write_text(SOURCE + "\n")
    forget()
    importlib.import_module("own_methods_of_mine")
    trained = (cell / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    assert app.run([*study, "--set", "train.epochs=1"]) == 2
    error = capsys.readouterr().err
    assert f"'{cell}': the method is made by {module}, which is not as it was when the run began" in error
    assert f"rm -r {cell} && barlowctl ablate" in error
    assert (cell / "metrics.jsonl").read_bytes() == trained


def test_where_nobody_registers_it_the_error_says_who_did(recipe: Path, module: Path, capsys: Captured) -> None:
    """And nothing is imported by itself: that would be a stranger's code."""
    run = pretrain(recipe, overrides={**FP32, **OWN, "train.epochs": 1}, out="own", threads=1)
    forget()
    message = (
        f"the method of the run 'own' is 'own-twins', which own_methods_of_mine ({module}) registered when it began"
    )
    for words in (
        ["export", "own", "--format", "timm", "--out", "x.safetensors"],
        ["report", "own", "--out", "r.html"],
    ):
        capsys.readouterr()
        assert app.run(words) == 2
        error, _, advice = capsys.readouterr().err.splitlines()
        assert error == f"error: {message}"
        assert advice == f"next: barlowctl --import own_methods_of_mine {' '.join(words)}"
        assert "own_methods_of_mine" not in sys.modules
        assert app.run(advice.split()[2:]) == 0
        forget()
    pretrain(recipe, overrides={**FP32, "train.epochs": 1}, out="ours", threads=1)
    capsys.readouterr()
    for words in (["list"], ["show", "own"], ["compare", "own", "ours"]):  # which need no network
        assert app.run(["runs", *words]) == 0
    assert "objective.name = barlow-twins" in capsys.readouterr().out
    assert app.run(["runs", "compare", "ours", "own"]) == 0
    assert "objective.name = own-twins, objective.args.lambd = 0.02" in capsys.readouterr().out
    assert app.run(["runs", "table", "own", "ours"]) == 2
    advice = capsys.readouterr().err.splitlines()[-1]
    assert advice == "next: barlowctl --import own_methods_of_mine runs table own ours"
    assert app.run(advice.split()[2:]) == 0
    forget()
    with pytest.raises(barlowctl.UserError) as refused:
        barlowctl.load("own").backbone()
    assert str(refused.value) == message
    assert refused.value.__notes__[-1] == "next: import own_methods_of_mine first"
    importlib.import_module("own_methods_of_mine")
    assert barlowctl.load("own").notes == ()
    module.write_text(SOURCE + "\n")
    forget()
    importlib.import_module("own_methods_of_mine")
    assert barlowctl.load("own").notes == (
        f"the method is made by {module}, which is not as it was when the run began",
    )
    assert run.path.is_dir()


def test_a_recipe_of_a_run_or_study_says_who_registered_its_method(
    recipe: Path, module: Path, capsys: Captured
) -> None:
    """Where it is read without that: a run's recipe.toml, of which a new run is begun, and a study that is shown."""
    words = ["--set", "train.epochs=1", "--set", "objective.name=own-twins", "--set", "train.precision=fp32"]
    Path("lambds.toml").write_text('[weak]\n"objective.args.lambd" = 0.0\n')
    study = ["ablate", "--grid", "lambds.toml", "--recipe", str(recipe), *words, "--threads", "1", "--out", "study"]
    assert app.run(["--import", "own_methods_of_mine", *study]) == 0
    run = next(Path("study").glob("cells/*/seed-0"))
    show = ["ablate", "--grid", "lambds.toml", "--recipe", "study/recipe.toml", "--show", "--out", "study"]
    for command in (show, ["recipes", "show", str(run / "recipe.toml")]):
        forget()
        program.begin_with(())
        capsys.readouterr()
        assert app.run(command) == 2
        error, allowed, advice = capsys.readouterr().err.splitlines()
        assert f"objective.name is 'own-twins', which own_methods_of_mine ({module}) registered when" in error
        assert allowed == "allowed: a process that imports what registers it first: " + (
            "nothing that a run's folder says is imported"
        )
        assert advice == f"next: barlowctl --import own_methods_of_mine {' '.join(command)}"
        assert app.run(advice.split()[2:]) == 0
    forget()
    with pytest.raises(barlowctl.UserError, match="which own_methods_of_mine") as refused:
        pretrain(str(run / "recipe.toml"), out="again")
    assert refused.value.__notes__[-1] == "next: import own_methods_of_mine first"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("init", r"the method 'own-twins' cannot be made: KeyError: 'nothing', in {file}, line 35"),
        ("unlisted", "trains 1 parameter that Twins.heads does not list: scale"),
        ("empty", "has a parameter without a number in it: Twins.scale"),
        ("heads", "has heads that are a list"),
        ("backbone", "does not keep its backbone as Twins.backbone"),
        ("tensor", "Twins.queue is a tensor, and neither a parameter nor a buffer"),
        ("grown", "Twins.memory is a tensor, and neither a parameter nor a buffer"),
        ("stacked", r"Twins.embeddings returns a tensor of shape \(2, 128, 64\)"),
        ("number", "Twins.compare returns a float, and no terms"),
        ("order", "Twins.compare returns loss, redundancy, invariance, and Twins.terms names invariance, redundancy"),
        ("detached", "Twins.compare returns a loss without a gradient"),
    ],
)
def test_a_mistake_in_it_is_one_clear_error(recipe: Path, module: Path, fault: str, message: str) -> None:
    with pytest.raises(barlowctl.UserError, match=message.format(file=module)):
        pretrain(recipe, overrides={**FP32, **OWN, "objective.args": {"fault": fault}}, out="own", threads=1)
    assert Path("own").exists() is (fault == "grown")  # which is seen after two steps, and their state is saved


@pytest.mark.parametrize(
    ("function", "written", "called"),
    [
        ("describe", lambda self: "", ("describe(self)", "describe(self, batch, ranks)")),
        ("compare", lambda self, z: z, ("compare(self, z)", "compare(self, embeddings, targets)")),
        ("embeddings", lambda self, a, b: [a, b], ("embeddings(self, a, b)", "embeddings(self, views)")),
        ("after_step", lambda self: None, ("after_step(self)", "after_step(self, progress)")),
    ],
)
def test_a_function_that_is_called_otherwise_is_named(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, function: str, written: Any, called: tuple[str, str]
) -> None:
    """No line of somebody's takes part in such an error, which was an internal one, of ours."""
    monkeypatch.setattr(sys.modules["own_methods_of_mine"].Twins, function, written)
    with pytest.raises(barlowctl.UserError) as refused:
        pretrain(recipe, overrides={**FP32, **OWN}, out="own", threads=1)
    assert refused.value.message == f"the method 'own-twins' has Twins.{called[0]}, which is called otherwise"
    assert refused.value.allowed == called[1]
    assert not Path("own").exists()


def test_an_error_of_theirs_while_it_trains_names_its_line_and_the_state_is_saved(
    recipe: Path, module: Path, capsys: Captured
) -> None:
    words = ["objective.name=own-twins", "objective.args.fault=later", "train.precision=fp32"]
    sets = [word for value in words for word in ("--set", value)]
    assert app.run(["pretrain", "--recipe", str(recipe), *sets, "--threads", "1", "--out", "own"]) == 1
    error = capsys.readouterr().err.partition("error: ")[2]
    assert error.startswith(f"{module}, line 73: ValueError: thirteen is enough; the ")
    assert "Traceback" not in error
    assert list(Path("own", "checkpoints").iterdir())


def test_a_loss_that_is_no_number_ends_the_run_as_any_does(recipe: Path) -> None:
    with pytest.raises(barlowctl.RunDiverged, match="loss"):
        pretrain(recipe, overrides={**FP32, **OWN, "objective.args": {"fault": "nan"}}, out="own", threads=1)


@pytest.mark.slow
@pytest.mark.dist
def test_over_two_ranks_it_learns_as_barlowctls_own_and_a_loss_of_own_rows_is_refused(
    recipe: Path, digits: Path, tmp_path: Path
) -> None:
    def over_two(out: str, *settings: str) -> subprocess.CompletedProcess[str]:
        words = [word for value in settings for word in ("--set", value)]
        words += ["--set", "train.precision=fp32", "--set", "train.log_every_steps=1"]
        command = ["--import", "own_methods_of_mine", "pretrain", "--recipe", str(recipe), "--out", out, *words]
        environment = {**os.environ, "BARLOWCTL_DATA": str(digits), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(Path(barlowctl.__file__).parents[1])
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "barlowctl"]
        return subprocess.run([sys.executable, *launcher, *command], env=environment, capture_output=True, text=True)

    assert over_two("ours").returncode == 0
    own = ("objective.name=own-twins", "objective.args.lambd=0.02")
    for more in ((), ("train.micro_batch=32",)):
        assert over_two(f"theirs{len(more)}", *own, *more).returncode == 0
    names = ("loss", "invariance", "redundancy")
    assert losses(Path("theirs0"), *names)[0] == pytest.approx(losses(Path("ours"), *names)[0], rel=1e-5)
    assert losses(Path("theirs0"), "loss")[-1] == pytest.approx(losses(Path("ours"), "loss")[-1], rel=2e-2)
    assert len(losses(Path("theirs1"), *names)) == len(losses(Path("ours"), *names))
    refused = over_two("alone", *own, "objective.args.fault=alone")
    assert refused.returncode != 0
    [error] = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: Twins's loss is ")
    assert " on rank 0 and " in error
    assert not Path("alone").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"objective.name": "own-twin"}, r"'own-twin', did you mean 'own-twins'\? Allowed: .*'own-function'.*one of"),
        ({**OWN, "objective.args": {"lambda": 1}}, "'objective.args.lambda', did you mean 'objective.args.lambd'"),
        ({**OWN, "objective.lambd": 1.0}, "unknown key 'objective.lambd', did you mean 'objective.args.lambd'"),
        ({**OWN, "objective.args": {"lambd": "much"}}, "objective.args.lambd is 'much'. Allowed: a number"),
        ({**OWN, "objective.args": {"lambd": True}}, "objective.args.lambd is true. Allowed: a number"),
        ({"objective.name": "own-function"}, "'objective.args.width' is missing"),
        ({"objective.name": "own-function", "objective.args": {"width": 8, "activation": "x"}},
         r"'objective.args.activation', .*\? Allowed in objective.args: width, sides, title"),
        ({**OWN, "model.predictor": [8]}, "Twins of mine has no predictor"),
        ({**OWN, "views.small.count": 2}, "Twins of mine takes 2 views of each image"),
        ({"objective.name": "own-unsaid"}, "the method 'own-unsaid' has views = 1, and was registered with 2"),
        ({"objective.name": "own-nothing"}, "the method 'own-nothing' is .*, and no method"),
    ],
)  # fmt: skip
def test_what_a_recipe_cannot_say_to_it_is_refused(recipe: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(barlowctl.UserError, match=message):
        pretrain(recipe, overrides=overrides, out="own")
    assert not Path("own").exists()


def test_a_function_makes_one_of_what_its_parameters_name(recipe: Path) -> None:
    own = {"objective.name": "own-function", "objective.args": {"width": 24, "sides": [3, 4]}}
    method = barlowctl.build_method(recipe, overrides=own)
    assert method.projector.out_features == 24
    assert method.projector.in_features == 32
    parsed = load.load(str(recipe), ["objective.name=own-function", "objective.args.width=24"])
    assert parsed.objective.model_dump() == {"name": "own-function", "args": {"width": 24, "sides": [1]}}
    assert load.parse(load.dump(parsed)) == parsed
