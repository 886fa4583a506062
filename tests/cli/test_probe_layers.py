"""`barlowctl probe --layers`: every layer of backbone and projector in one pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barlowctl.cli.app import run as barlowctl

Captured = pytest.CaptureFixture[str]


def probe(arguments: list[str], capsys: Captured) -> dict[str, Any]:
    code = barlowctl(["probe", *arguments, "--threads", "1", "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def test_the_sweep_has_the_numbers_of_the_features_among_others(trained: Path, recipe: Path, capsys: Captured) -> None:
    result = probe([str(trained), "--layers", "--knn", "--linear", "--out", "out"], capsys)
    rows = {row["layer"]: row for row in result["layers"]["rows"]}
    assert [(name, row["features"]) for name, row in rows.items()] == [
        ("act1", 16), ("layer1", 8), ("layer2", 16), ("layer3", 16), ("features", 32), ("projector 1", 64),
        ("projector 2", 64),
    ]  # fmt: skip
    features = rows["features"]
    assert features["knn"] == pytest.approx(result["knn"]["k20"], abs=0.3)  # one image is 0.25
    assert features["linear"] == pytest.approx(result["linear"]["top1"], abs=0.6)
    assert features["validation_top1"] == pytest.approx(result["linear"]["validation_top1"], abs=1.5)
    assert features["effective_rank"] == pytest.approx(result["effective_rank"], rel=1e-3)
    best = max(rows.values(), key=lambda row: row["validation_top1"])
    assert result["layers"]["best"] == best["layer"]
    assert result["layers"]["images"] == [1400, 397]

    assert barlowctl(["probe", str(trained), "--layers", "--out", "out", "--threads", "1"]) == 0
    output = capsys.readouterr().out
    assert f"best layer on a tenth of the training images: {best['layer']}" in output
    document = json.loads((Path("out") / "probe-digits.json").read_text())
    for key in ("knn", "effective_rank", "rankme", "alpha"):  # of the command before; --layers alone has none of them
        assert document[key] == result[key]
    assert document["layers"]["rows"] == result["layers"]["rows"]  # measured again, and the same

    parts = [line.removeprefix("layers: ") for line in output.splitlines() if line.startswith("layers: ")]
    assert parts[:2] == ["features of 1,400 of 1,400 train images", "features of 397 of 397 test images"]
    assert parts[2:] == [f"kNN and linear of {name}, {at} of 7" for at, name in enumerate(rows, start=1)]
    assert f"written to {Path('out') / 'probe-digits.json'}; by class" in output  # of the command before
    assert output.count("features of ") == 2  # one pass: the backbone alone does not look at them once more


def test_of_a_large_split_some_images_are_measured_of_every_class(
    trained: Path, recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from barlowctl.measure import layers

    monkeypatch.setattr(layers, "MOST_IMAGES", 300)
    monkeypatch.setattr(layers, "OF_EACH_CLASS", 50)
    result = probe([str(trained), "--layers", "--out", "out"], capsys)
    assert result["layers"]["images"] == [500, 300]  # digits have ten classes
    assert not result["layers"]["whole"]
    assert result["layers"]["rows"][-1]["linear"] > 10


def test_more_than_fits_is_measured_on_some_of_the_images(
    trained: Path, recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from barlowctl.measure import layers

    monkeypatch.setattr(layers, "MOST_BYTES", 4 * 216 * 900)
    result = probe([str(trained), "--layers", "--out", "out"], capsys)
    assert not Path("out/probe-digits").exists()
    count = sum(result["layers"]["images"])
    assert count == pytest.approx(900, abs=2)
    assert not result["layers"]["whole"]


def test_a_collapsed_layer_has_a_reason_instead_of_numbers(
    trained: Path, recipe: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    from barlowctl.model.every_layer import EveryLayer

    forward = EveryLayer.forward

    def flat(self: EveryLayer, images: Any) -> Any:
        made = forward(self, images)
        made[:, :16] = 1.0
        return made

    monkeypatch.setattr(EveryLayer, "forward", flat)
    result = probe([str(trained), "--layers", "--out", "out"], capsys)
    first, second = result["layers"]["rows"][:2]
    assert first == {"layer": "act1", "features": 16, "reason": "the features of all images are the same (collapse)"}
    assert second["linear"] > 10
