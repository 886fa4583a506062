"""A model card: README.md of a repository of the Hugging Face Hub. Plain values in, Markdown with its header out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from barlowctl.amounts import counted

ACCURACY = "top-1"
"""What a result is called that the header says too, as the Hub's metric `accuracy`."""
TASK = "image-feature-extraction"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A number that was measured, in percent.

    Attributes:
        dataset: its name for people. hub: its identifier on the Hub, else a word for it. split, images: measured on.
        network: whose features; None: of this model. measure: for people. metric: `ACCURACY`, "mAP", ...
        value: None: not reported. deviation, seeds: of several.
        protocol: how it was measured.
    """

    dataset: str
    hub: str
    split: str
    images: int | None
    network: str | None
    measure: str
    metric: str
    value: float | None
    deviation: float | None = None
    seeds: int = 1
    protocol: str = ""

    def number(self) -> str:
        """`55.16 ± 0.12 (3 seeds)`."""
        if self.value is None or not math.isfinite(self.value):
            return "not reported"
        return f"{self.value:.2f}" + (
            f" ± {self.deviation:.2f} ({self.seeds} seeds)" if self.deviation is not None else ""
        )


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the card says.

    Attributes:
        repository: USER/NAME. license: its identifier; license_file: the file with the text of one's own, or "".
        method: its name in a recipe. summary: a paragraph. images: what the network expects.
        datasets: identifiers on the Hub of what it was trained on. results: what was measured.
        usage: library -> Markdown. files: name -> what it is.
        training: label -> value. recipe: its file. curves: the picture's file, or "".
        without_labels: measure -> value, of what needs no labels.
        limits: sentences. citation: BibTeX.
    """

    repository: str
    license: str
    license_file: str
    method: str
    summary: str
    images: str
    datasets: Sequence[str]
    results: Sequence[Result]
    without_labels: Mapping[str, str]
    usage: Sequence[tuple[str, str]]
    files: Mapping[str, str]
    training: Mapping[str, str]
    recipe: str
    curves: str
    limits: Sequence[str]
    citation: str

    @property
    def name(self) -> str:
        return self.repository.rpartition("/")[2]


def text(card: ModelCard) -> str:
    """The whole card."""
    parts = [
        f"---\n{_header(card)}\n---",
        f"# {card.name}",
        card.summary,
        f"**Images it expects:** {card.images}.",
        "## Use",
        *(f"### {library}\n\n{lines}" for library, lines in card.usage),
        "## Files",
        _table(("file", ""), [(f"`{name}`", what) for name, what in card.files.items()]),
        "## Results",
        *_results(card),
        "## Training",
        _table(("", ""), list(card.training.items())),
        *([f"![Curves of the training]({card.curves})"] if card.curves else []),
        f"The whole recipe, every setting of it: [{card.recipe}]({card.recipe}).",
        "## Limits",
        "\n".join(f"- {limit}" for limit in card.limits),
        "## License",
        f"`{card.license}`" + (f": see [{card.license_file}]({card.license_file})." if card.license_file else "."),
        "## Citation",
        f"```bibtex\n{card.citation}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _header(card: ModelCard) -> str:
    """YAML as the Hub wants it (huggingface/hub-docs, modelcard.md)."""
    from huggingface_hub import EvalResult, ModelCardData

    own = [result for result in card.results if result.network is None and result.metric == ACCURACY]
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=result.hub,
            dataset_name=result.dataset,
            dataset_split=result.split or None,
            metric_type="accuracy",
            metric_name=f"{result.measure}, {result.metric}, percent"
            + (f", mean of {result.seeds} seeds (sd {result.deviation:.2f})" if result.deviation is not None else ""),
            metric_value=result.value,
        )
        for result in own
        if result.value is not None and math.isfinite(result.value)
    ]
    own_license = card.license == "other"
    data = ModelCardData(
        license=card.license,
        license_name=f"{card.name.lower()}-license" if own_license else None,
        license_link=card.license_file if own_license else None,
        library_name="timm",
        pipeline_tag=TASK,
        tags=["timm", "barlowctl", "self-supervised-learning", card.method],
        datasets=list(card.datasets) or None,
        metrics=["accuracy"] if results else None,
        eval_results=results or None,
        model_name=card.name if results else None,
    )
    return data.to_yaml()


def _results(card: ModelCard) -> list[str]:
    if not card.results and not card.without_labels:
        return ["Nothing was measured of these weights on labelled images."]
    parts = []
    if card.results:
        rows = [
            (_measured_on(result), result.network or "this model", result.measure, result.metric, result.number())
            for result in card.results
        ]
        parts.append("Percent. ± is the standard deviation of a sample of seeds; without it: measured once.")
        parts.append(_table(("measured on", "features of", "measure", "metric", "value"), rows))
        parts.append("\n".join(_protocols(card.results)))
    else:
        parts.append("Nothing was measured of these weights on labelled images.")
    if card.without_labels:
        parts.append("Without labels:")
        parts.append(_table(("", ""), list(card.without_labels.items())))
    return parts


def _protocols(results: Sequence[Result]) -> list[str]:
    """How each measure is made, in a line; where that differs by what is measured, with whose it is."""
    networks: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.protocol:
            of = networks.setdefault((result.measure, result.protocol), [])
            of += [name for name in [result.network or "this model"] if name not in of]
    measures = [measure for measure, _ in networks]
    return [
        f"- {measure}{' of ' + ', '.join(of) if measures.count(measure) > 1 else ''}: {protocol}."
        for (measure, protocol), of in networks.items()
    ]


def _measured_on(result: Result) -> str:
    count = "" if result.images is None else f", {counted(result.images, 'image')}"
    return f"{result.dataset}{f' ({result.split})' if result.split else ''}{count}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown; what would end a cell is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
