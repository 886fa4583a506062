"""README.md of a folder as on the Hugging Face Hub: what the network is, and how timm and transformers load it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import barlowctl
from barlowctl.exports.formats.folder_lines import TASK, limits_of, timm_lines, transformers_lines

if TYPE_CHECKING:
    from barlowctl.exports.exported import ExportedModel

NAME = "README.md"
FOLDER = "FOLDER"
"""How the card calls the folder in its lines of Python."""


def write_card(model: ExportedModel, library: str, path: Path) -> Path:
    """Write the card into the folder at `path`; library: "timm" or "transformers", which the Hub then names."""
    (path / NAME).write_text(card(model, library), encoding="utf-8")
    return path / NAME


def card(model: ExportedModel, library: str) -> str:
    """The card's text, in Markdown with the header that the Hub reads."""
    method = model.provenance.get("method")
    tags = ["timm", "self-supervised-learning", *([method] if method else [])]
    header = [
        f"library_name: {library}",
        f"pipeline_tag: {TASK}",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    origin = [f"| {key} | `{value}` |" for key, value in model.provenance.items()]
    parts = [
        "\n".join(["---", *header, "---"]),
        f"# {model.architecture}" + (f", pre-trained with {method}" if method else ""),
        f"A backbone without a classifier, exported by barlowctl {barlowctl.__version__}. Images it expects: "
        f"{model.preprocessing}.",
        *(["\n".join(["| where the weights come from | |", "|---|---|", *origin])] if origin else []),
        f"`{FOLDER}` is this folder.",
        f"## timm\n\n{python_block(*_timm_lines(model))}",
        f"## transformers\n\n{transformers_section(model, FOLDER)}",
    ]
    return "\n\n".join(parts) + "\n"


def python_block(*lines: str) -> str:
    """Lines of Python as Markdown."""
    return "\n".join(["```python", *lines, "```"])


def transformers_section(model: ExportedModel, place: str) -> str:
    """How transformers loads what lies at `place`, a folder or a repository of the Hub; or why it cannot."""
    if model.stem != "default":
        why = f"it asks timm for the network, which has no argument for the stem {model.stem!r}"
        return f"transformers cannot load it: {why}."
    lines = transformers_lines(model, place).splitlines()
    if model.preprocessing.channels == 3:
        lines += [
            "",
            "from transformers import pipeline",
            f'features = pipeline("{TASK}", model="{place}")  # features("picture.jpg", pool=True)',
        ]
    return "\n\n".join([python_block(*lines), *(f"{limit[0].upper()}{limit[1:]}." for limit in limits_of(model))])


def _timm_lines(model: ExportedModel) -> list[str]:
    return [
        *timm_lines(model, Path(FOLDER)).splitlines(),
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
    ]
