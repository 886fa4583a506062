"""The result of `barlowctl probe` as a table, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from barlowctl.amounts import counted, of_labels
from barlowctl.cli.console import Console

if TYPE_CHECKING:
    from barlowctl.measure.subjects import Subject

TRAINED = {
    "linear_paper": "linear (paper)",
    "semi_1": "1 % labels",
    "semi_1_modern": "1 % labels (modern)",
    "semi_10": "10 % labels",
    "semi_10_modern": "10 % labels (modern)",
    "finetune": "fine-tuned",
    "finetune_modern": "fine-tuned (modern)",
}


def show_result(
    console: Console, opened: Subject, result: dict[str, Any], measured: list[dict[str, Any]], images: int
) -> None:
    """A table with a row for the network and each baseline, and the notes on what is in it.

    Args:
        measured: the result of the network first, then of the baselines. images: of the test split.
    """
    from barlowctl.measure.probing import MEASURED

    columns: list[tuple[str, Callable[[dict[str, Any]], Any]]] = []
    classes = result["data"]["classes"]
    top5 = "top-5" if classes > 5 else f"top-5 (of {classes} classes: always 100)"
    if "knn" in result:
        columns += [("kNN k 20", lambda m: _knn_cell(m, "k20")), ("kNN k 200", lambda m: _knn_cell(m, "k200"))]
    for key, label in {"linear": "linear", **TRAINED}.items():
        if key in result:
            label = of_labels(label, result[key])
            columns.append((f"{label} top-1", lambda m, key=key: _cell(m, key, "top1")))  # type: ignore[misc]
            columns.append((top5, lambda m, key=key: _cell(m, key, "top5")))  # type: ignore[misc]
    rows = [(row["name"], *(value(row) for _, value in columns)) for row in measured]
    title = f"{opened.name}: percent of {images:,} test images"
    if columns:
        console.table(title, ("features of", *(name for name, _ in columns)), rows)
    _show_layers(console, opened, result)
    for key in TRAINED:
        if key in result:
            console.say(f"{of_labels(TRAINED[key], result[key])}: {_labelled(result, key)}{result[key]['protocol']}")
    for note in dict.fromkeys(note for row in measured for note in row.get("knn", {}).get("notes", ())):
        console.say(f"note: kNN: {note}")
    for row in measured:
        for key in TRAINED:
            for note in row.get(key, {}).get("notes", ()):
                console.say(f"note: {row['name']}: {of_labels(TRAINED[key], row[key])}: {note}")
        for key, name in MEASURED.items():
            if reason := row.get(key, {}).get("reason"):
                console.say(f"note: {row['name']}: no {name}: {reason}")
    say_label_free(console, result)


def _labelled(result: dict[str, Any], key: str) -> str:
    """How many of the training images gave their labels, where it is a share of them."""
    if "lists" not in result[key]:
        return ""
    return f"{result[key]['images']:,} of {counted(result['data']['train']['images'], 'training image')}; "


def say_label_free(console: Console, result: dict[str, Any]) -> None:
    """What was measured of features and embeddings without labels."""
    if result.get("feature_spread") is not None:
        spread = f"feature spread {result['feature_spread']:.3f}, effective rank {result['effective_rank']:.1f}"
        console.say(f"{spread} of {result['features']}, alpha {result['alpha']:.2f}")
    label_free = {"rankme": "RankMe", "lidar": "LiDAR", "feature_lidar": "LiDAR of the features"}
    if of_run := [f"{label} {result[key]:.1f}" for key, label in label_free.items() if result.get(key) is not None]:
        console.say("without labels: " + ", ".join(of_run))


def _show_layers(console: Console, opened: Subject, result: dict[str, Any]) -> None:
    """A table with a row for each layer, where they were measured, and which one is the best."""
    from barlowctl.measure.layers import sentences

    if (layers := result.get("layers")) is None:
        return
    columns = {"features": "features", "knn": "kNN k 20", "linear": "linear", "validation_top1": "linear, validation"}
    rows = [
        (row["layer"], *(_with_spread(row, key) for key in columns), row.get("effective_rank"))
        for row in layers["rows"]
    ]
    title = f"{opened.name}, layer by layer: percent of {layers['images'][1]:,} test images"
    console.table(title, ("layer", *columns.values(), "effective rank"), rows)
    for sentence in sentences(layers):
        console.say(sentence)


def _with_spread(row: dict[str, Any], key: str) -> Any:
    deviation = row.get(f"{key}_sd")
    return row.get(key) if deviation is None else f"{row[key]:.2f} ± {deviation:.2f}"


def _knn_cell(measured: dict[str, Any], name: str) -> Any:
    """Top-1 with k neighbours, and how many voted where the bank has fewer: the number is then of another k."""
    value, voted = _cell(measured, "knn", name), measured.get("knn", {}).get("neighbours", {}).get(name)
    fewer = value is not None and voted is not None and voted < int(name.removeprefix("k"))
    return f"{value:.2f} (k {voted})" if fewer else value


def _cell(measured: dict[str, Any], key: str, name: str) -> Any:
    values = measured.get(key)
    if values is None:
        return None
    deviation = values.get(f"{name}_sd")
    return values.get(name) if deviation is None else f"{values[name]:.2f} ± {deviation:.2f}"
