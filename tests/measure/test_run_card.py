"""What a card says of a run's files: numbers of these weights alone, names in the place of paths."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from barlowctl.measure import run_card
from barlowctl.recipe import load
from barlowctl.recipe.objectives import OURS
from barlowctl.report.citations import PAPERS, bibtex
from barlowctl.report.model_card import ModelCard, Result, text
from barlowctl.runs.history import History

WEIGHTS = "ab" * 32


def write(run: Path, name: str, **values: Any) -> None:
    place = {"test": {"path": "/home/alice/sets/flowers/val.beton", "images": 500}}
    document = {"identity": {"weights": WEIGHTS, "protocol": {"seeds": 3}}, "data": place, **values}
    (run / name).write_text(json.dumps(document))


def history(run: Path, **data: Any) -> History:
    return History(run, "finished", {"data": data}, (), {}, 0.0)


def test_results_of_probe_and_transfer_are_taken_with_their_spread(tmp_path: Path) -> None:
    of_seeds = {"top1": 60.0, "top1_sd": 0.5, "seeds": [{}, {}, {}], "protocol": "as the paper does."}
    write(tmp_path, "probe-flowers.json", linear_paper=of_seeds, resize=64, crop=56, rankme=20.04)
    write(tmp_path, "transfer-voc07.json", task="voc07", metric="mAP", value=70.5, sd=0.25, protocol="SVM")
    write(tmp_path, "probe-older.json", identity={})
    measured = run_card.measurements(tmp_path, WEIGHTS)
    probe, transfer = measured.results
    assert (probe.dataset, probe.hub, probe.split, probe.images) == ("flowers", "flowers", "val", 500)
    assert (probe.measure, probe.number()) == ("linear (paper's protocol)", "60.00 ± 0.50 (3 seeds)")
    assert probe.protocol == "as the paper does; images of 64 pixels, the central 56"
    assert (transfer.dataset, transfer.metric, transfer.number()) == ("VOC 2007", "mAP", "70.50 ± 0.25 (3 seeds)")
    assert measured.without_labels == {"RankMe, effective rank of the embeddings": "20.04"}
    assert measured.left_out == ("probe-older.json",)


def test_a_measure_made_in_two_ways_has_a_number(tmp_path: Path) -> None:
    """Two rows `transfer to folder, top-1` with 78.30 and 21.70 said nothing of which is which."""
    folder = {"task": "folder", "metric": "top-1", "sd": None}
    write(tmp_path, "transfer-folder.json", value=78.3, protocol="logistic regression", **folder)
    write(tmp_path, "transfer-folder-6e618f31.json", value=21.7, protocol="SGD, 2 epochs.", **folder)
    write(tmp_path, "transfer-voc07.json", task="voc07", metric="mAP", value=70.5, protocol="SVM")
    by_value = {
        result.value: (result.measure, result.protocol) for result in run_card.measurements(tmp_path, WEIGHTS).results
    }
    assert by_value == {
        21.7: ("transfer to folder, protocol 1", "SGD, 2 epochs"),
        78.3: ("transfer to folder, protocol 2", "logistic regression"),
        70.5: ("transfer to voc07", "SVM"),
    }


@pytest.mark.parametrize(("method", "learned"), [("supervised", 700), ("barlow-twins", 900)])
def test_a_method_that_learns_labels_learned_from_the_images_that_have_one(
    tmp_path: Path, method: str, learned: int
) -> None:
    recipe = load.load("cifar10-resnet18", [f"objective.name={method}", "data.holdout=100"])
    fingerprint = {"images": 1000, "digest": "0f" * 32}
    of_run = history(tmp_path, fingerprint=fingerprint, labelled=800)
    assert run_card.learned_from(recipe, of_run) == f"{learned} of the 1,000 images of cifar10"
    left_out = "200 of them without a label and left out, " if method == "supervised" else ""
    assert f": 1,000 images, {left_out}100 of them held out, " in run_card.images_of(recipe, of_run)
    earlier = history(tmp_path, fingerprint=fingerprint)
    assert run_card.learned_from(recipe, earlier) == "900 of the 1,000 images of cifar10"
    in_groups = history(tmp_path, fingerprint=fingerprint, labelled=800, held_out=107)
    assert run_card.learned_from(recipe, in_groups) == f"{learned - 7} of the 1,000 images of cifar10"
    assert "107 of them held out, " in run_card.images_of(recipe, in_groups)


@pytest.mark.parametrize(
    ("place", "images", "hub"),
    [("cifar10", 50_000, ("uoft-cs/cifar10",)), ("cifar10", 49_000, ()), ("mine", 50_000, ())],
)
def test_a_published_set_is_named_where_its_images_are_as_many(
    tmp_path: Path, place: str, images: int, hub: tuple[str, ...]
) -> None:
    recipe = load.load("cifar10-resnet18")
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"dataset": place})})
    of_run = history(tmp_path, fingerprint={"images": images, "digest": "0f" * 32})
    assert run_card.datasets_of(recipe, of_run) == hub
    others = history(tmp_path, dataset="/photos", fingerprint={"images": images, "digest": "0f" * 32})
    assert run_card.datasets_of(recipe, others) == ()
    assert run_card.images_of(recipe, of_run) == f"{place}: {images:,} images, fingerprint {'0f' * 32} (SHA-256)"
    assert run_card.learned_from(recipe, of_run) == f"{images:,} images of {place}"
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"holdout": 1000})})
    assert f": {images:,} images, 1,000 of them held out, fingerprint" in run_card.images_of(recipe, of_run)
    assert run_card.learned_from(recipe, of_run) == f"{images - 1000:,} of the {images:,} images of {place}"


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("flowers", "flowers"), ("/home/alice/flowers", "flowers"), ("../alice/flowers/", "flowers"),
        ("C:\\alice\\flowers", "flowers"), ("~/alice/a.safetensors", "a.safetensors"),
        ("hf-hub:timm/resnet50.a1_in1k", "hf-hub:timm/resnet50.a1_in1k"), ("", ""),
    ],
)  # fmt: skip
def test_of_a_path_the_last_part_is_published(place: str, name: str) -> None:
    assert run_card.public(place) == name


def card(**values: Any) -> ModelCard:
    result = Result(
        dataset="a|b", hub="a-b", split="test", images=None, network=None, measure="kNN", metric="top-1", value=1.5
    )
    given: dict[str, Any] = {
        "repository": "me/Mine", "license": "mit", "license_file": "", "method": "byol", "summary": "s", "images": "i",
        "datasets": ["x/y"], "results": [result], "without_labels": {}, "usage": [], "files": {},
        "training": {"k": "a|b\nc"}, "recipe": "recipe.toml", "curves": "", "limits": ["l"], "citation": "c",
    }  # fmt: skip
    return ModelCard(**given | values)


def test_the_header_is_what_the_hub_reads_and_tables_hold() -> None:
    written = text(card())
    header = yaml.safe_load(written.split("---\n")[1])
    assert header["datasets"] == ["x/y"]
    assert header["metrics"] == ["accuracy"]
    assert header["model-index"][0]["results"][0]["metrics"][0]["value"] == 1.5
    assert "| a\\|b (test) | this model | kNN | top-1 | 1.50 |" in written
    assert "| k | a\\|b c |" in written
    others = [replace(card().results[0], metric="mAP"), replace(card().results[0], network="random backbone")]
    header = yaml.safe_load(text(card(results=others)).split("---\n")[1])
    assert "model-index" not in header, "it is of this model's accuracy alone"


def test_how_a_measure_is_made_says_of_what_where_that_differs() -> None:
    (own,) = card().results
    results = [
        replace(own, protocol="images of 36 pixels"),
        replace(own, network="raw pixels", protocol="images of 28 pixels"),
        replace(own, network="random backbone", protocol="images of 36 pixels"),
        replace(own, measure="linear", protocol="fast"),
        replace(own, measure="linear", network="raw pixels", protocol="fast"),
    ]
    lines = [line for line in text(card(results=results)).splitlines() if line.startswith(("- kNN", "- linear"))]
    assert lines == [
        "- kNN of this model, random backbone: images of 36 pixels.",
        "- kNN of raw pixels: images of 28 pixels.",
        "- linear: fast.",
    ]


def test_every_method_has_its_paper() -> None:
    assert {"barlow-twins", "moco-v2"} < set(OURS)
    assert set(OURS) == PAPERS.keys()
    for method, papers in PAPERS.items():
        cited = bibtex(method, "1.2.3")
        assert all(f"eprint = {{{paper.arxiv}}}" in cited for paper in papers)
        assert "version = {1.2.3}" in cited
