"""`barlowctl export --push`: shown, confirmed, pushed to a stand-in of the Hub; its card says what the run does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load

import barlowctl as package
from barlowctl.assemble.finished import open_run
from barlowctl.cli.app import run as barlowctl
from tests.exports.hub_stand_in import OLD_SPELLING, TOKEN, Hub, hub_stand_in, use

pytestmark = OLD_SPELLING
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_stand_in() as hub:
        use(hub, monkeypatch, tmp_path / "cache")
        yield hub


@pytest.fixture(scope="session")
def unmeasured(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without what other tests measured of it."""
    run = tmp_path_factory.mktemp("unmeasured") / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("probe*", "transfer*"))
    return run


@pytest.fixture(scope="session")
def probed(unmeasured: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in a folder whose name is nobody's business, measured with two seeds, and once with other weights."""
    run = tmp_path_factory.mktemp("clinic") / "mine"
    shutil.copytree(unmeasured, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARLOWCTL_DATA", str(digits))
        patch.setattr("barlowctl.assemble.label_free.LIDAR_IMAGES", 40)
        patch.setattr("barlowctl.assemble.label_free.LIDAR_VIEWS", 3)
        arguments = ["--random-init", "--seeds", "2", "--threads", "1", "--quiet"]
        assert barlowctl(["probe", str(run), *arguments]) == 0
    other = json.loads((run / "probe-digits.json").read_text())
    other["identity"]["weights"] = "0" * 64
    (run / "probe-other.json").write_text(json.dumps(other))
    return run


def header_of(card: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return values


def test_a_run_is_pushed_with_its_card(hub: Hub, recipe: Path, probed: Path, capsys: Captured) -> None:
    arguments = ["export", str(probed), "--push", "me/digits", "--license", "cc-by-4.0", "--yes", "--json"]
    assert barlowctl(arguments) == 0
    output = capsys.readouterr()
    result = json.loads(output.out)
    repository = hub.repositories["me/digits"]
    files = {name: content for name, content in repository.files.items() if name != ".gitattributes"}
    assert repository.private
    assert result["private"]
    assert result["url"] == f"{hub.endpoint}/me/digits/commit/{repository.revision}"
    assert result["files"] == {name: len(content) for name, content in files.items()}
    assert files.keys() == {"README.md", "config.json", "curves.png", "model.safetensors", "recipe.toml"}
    assert files["README.md"].decode() == result["card"]
    weights = load(files["model.safetensors"])
    run = open_run(probed)
    assert all(torch.equal(weights[key], value) for key, value in run.method.backbone.state_dict().items())
    everything = [output.out, output.err, *(content.decode(errors="replace") for content in files.values())]
    assert [text for text in everything if TOKEN in text] == []
    assert [name for name, content in files.items() if b"clinic" in content or bytes(probed.parent) in content] == []


def test_what_is_there_already_is_not_sent_again(hub: Hub, recipe: Path, probed: Path, capsys: Captured) -> None:
    for more in ([], ["--overwrite"]):
        assert barlowctl(["export", str(probed), "--push", "me/twice", "--license", "mit", "--yes", *more]) == 0
        sent = [path for path in hub.requests if path.startswith("PUT /upload/")]
        assert len(sent) == 2, "the weights and the curves, once"


def test_the_card_says_what_was_measured_of_these_weights(
    hub: Hub, recipe: Path, probed: Path, capsys: Captured
) -> None:
    arguments = ["export", str(probed), "--push", "me/digits", "--license", "mit", "--dry-run", "--json"]
    assert barlowctl(arguments) == 0
    output = capsys.readouterr()
    assert hub.requests == [], "a dry run needs no network"
    card = json.loads(output.out)["card"]
    measured = json.loads((probed / "probe-digits.json").read_text())
    header = header_of(card)
    assert (header["license"], header["library_name"]) == ("mit", "timm")
    assert header["pipeline_tag"] == "image-feature-extraction"
    assert {"timm", "barlow-twins"} <= set(header["tags"])
    assert "datasets" not in header, "digits is not published under a name that the Hub has"
    (model,) = header["model-index"]
    (of_digits,) = model["results"]
    assert of_digits["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    values = [metric["value"] for metric in of_digits["metrics"]]
    assert values == [measured["knn"]["top1"], measured["linear"]["top1"]]
    linear = f"{measured['linear']['top1']:.2f} ± {measured['linear']['top1_sd']:.2f} (2 seeds)"
    assert f"| digits (test), 397 images | this model | linear (fast) | top-1 | {linear} |" in card
    assert f"| random backbone | kNN, k 20 | top-1 | {measured['floors'][0]['knn']['top1']:.2f} |" in card
    about = json.loads((probed / "run.json").read_text())
    assert "Barlow Twins on 1,300 of the 1,400 images of digits, with barlowctl" in card
    digest = about["data"]["fingerprint"]["digest"]
    assert f"digits: 1,400 images, 100 of them held out, fingerprint {digest} (SHA-256)" in card
    assert about["facts"]["optimizer"] in card
    assert "2103.03230" in card
    assert "note: probe-other.json does not say that it is of these weights" in output.err


def test_without_numbers_the_card_says_so(recipe: Path, unmeasured: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "MY LICENSE").write_text("Ask me.\n")
    arguments = ["--license", "other", "--license-file", "MY LICENSE", "--out", "there", "--dry-run"]
    assert barlowctl(["export", str(unmeasured), "--push", "me/Digits", *arguments]) == 0
    out = capsys.readouterr().out
    assert "nothing was pushed" in out
    size = (tmp_path / "there" / "model.safetensors").stat().st_size
    assert size >= 1000
    assert f" {size:,} " in out
    card = (tmp_path / "there" / "README.md").read_text()
    header = header_of(card)
    assert (header["license_name"], header["license_link"]) == ("digits-license", "LICENSE")
    assert "model-index" not in header
    assert "Nothing was measured of these weights on labelled images." in card
    assert (tmp_path / "there" / "LICENSE").read_text() == "Ask me.\n"
    assert barlowctl(["export", "there", "--push", "me/x", "--license", "mit", "--dry-run"]) == 2


def test_names_and_not_paths_are_published(recipe: Path, trained: Path, tmp_path: Path, hub: Hub) -> None:
    shutil.copytree(trained, tmp_path / "run")
    text = (tmp_path / "run" / "recipe.toml").read_text()
    assert 'dataset = "digits"' in text
    text += '\n[init]\nweights = "/home/alice/secret/start.safetensors"\nsha256 = "' + "0" * 64 + '"\n'
    (tmp_path / "run" / "recipe.toml").write_text(text)
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    about["data"] |= {"dataset": "/home/alice/patients/xrays", "path": "/home/alice/patients/xrays/train"}  # --data
    (tmp_path / "run" / "run.json").write_text(json.dumps(about))
    published = package.load(tmp_path / "run").push("me/mine", "mit", out=tmp_path / "out")
    assert published.commit is not None
    files = hub.repositories["me/mine"].files
    assert [name for name, content in files.items() if b"alice" in content] == []
    assert b'dataset = "xrays"' in files["recipe.toml"]
    assert "images of xrays, with barlowctl" in published.card
    assert "It has seen xrays and nothing else" in published.card
    assert "| images | xrays: 1,400 images" in published.card
    assert "start.safetensors" in published.card
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.metadata()["init"] == "start.safetensors"


def test_python_pushes_the_same(hub: Hub, recipe: Path, trained: Path, capsys: Captured) -> None:
    arguments = ["export", str(trained), "--push", "me/typed", "--license", "mit", "--yes", "--public", "--quiet"]
    assert barlowctl(arguments) == 0
    assert "which anyone can see" in capsys.readouterr().out
    called = package.push(trained, "me/typed", "mit", dry_run=True)
    assert called.commit is None
    assert called.card.encode() == hub.repositories["me/typed"].files["README.md"]
    with pytest.raises(package.UserError, match=r"holds README\.md") as error:
        package.push(trained, "me/typed", "mit", public=True)
    assert error.value.__notes__ == ["next: overwrite=True"]
    done = package.push(trained, "me/typed", "mit", public=True, overwrite=True)
    assert done.commit is not None
    assert not done.commit.private
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "says", "next"),
    [
        (["--push", "me/x"], "under which license", "choose one with --license"),
        (["--push", "me/x", "--license", "mitt"], "did you mean 'mit'", "choose one of them with --license"),
        (["--push", "me/x", "--license", "other"], "its text is not there", "with --license-file"),
        (["--push", "me/x", "--license", "mit", "--license-file", "no"], "no file 'no'", "with --license-file"),
        (["--push", "x", "--license", "mit"], "'x' does not name a user", "another name as USER/NAME"),
        (["--push", "me/x", "--license", "mit", "--format", "onnx"], "and no onnx", "--license mit"),
        (["--push", "me/x", "--license", "mit"], "nobody to ask", "--license mit --yes"),
        (["--push", "me/x", "--license", "mit", "--dry-run", "--precision", "fp16"], "'hub' has", "--dry-run"),
        (["--license", "mit"], "--license is of --push", "barlowctl export"),
        (["--public"], "--public is of --push", "barlowctl export"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    hub: Hub, recipe: Path, trained: Path, capsys: Captured, arguments: list[str], says: str, next: str
) -> None:
    before = sorted(trained.iterdir())
    assert barlowctl(["export", str(trained), *arguments]) == 2
    message = capsys.readouterr().err
    assert says in message
    assert next in message.partition("next: ")[2]
    assert hub.requests == []
    assert sorted(trained.iterdir()) == before


@pytest.mark.parametrize(("answer", "code", "sent"), [("y\n", 0, True), ("\n", 0, False)])
def test_a_person_is_asked(
    hub: Hub,
    recipe: Path,
    trained: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    sent: bool,
) -> None:
    from barlowctl.cli.console import Console

    questions = []

    def confirm(self: Console, question: str) -> bool:
        questions.append(question)
        return answer == "y\n"

    monkeypatch.setattr(Console, "can_ask", True)
    monkeypatch.setattr(Console, "confirm", confirm)
    assert barlowctl(["export", str(trained), "--push", "me/mine", "--license", "mit"]) == code
    assert "to the private repository me/mine?" in questions[0]
    assert ("me/mine" in hub.repositories) == sent
    assert ("nothing was pushed" in capsys.readouterr().out) != sent


def test_without_a_token_it_says_how_to_log_in(
    hub: Hub, recipe: Path, trained: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert barlowctl(["export", str(trained), "--push", "me/mine", "--license", "mit", "--yes"]) == 2
    assert "next: hf auth login" in capsys.readouterr().err
