"""What some formats can be told beside the model: each is a field, of the same name, of the formats that have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

Precision = Literal["fp32", "fp16"]


class FormatOptions(TypedDict, total=False):
    """Options as keyword arguments; at its default each says nothing.

    Attributes:
        zero_classifier: of "torchvision": a classifier of zeros for 1,000 classes, for tools that want every key.
        with_preprocessing: of "onnx": the network takes pixels and normalises them itself.
        precision: of "onnx": of the weights, and what they are multiplied in.
    """

    zero_classifier: bool
    with_preprocessing: bool
    precision: Precision


@dataclass(frozen=True)
class Option:
    """An option as the command line has it.

    Attributes:
        default: what it is where nobody says anything.
        flag: how it is typed. lacks: what a format without it has not.
    """

    default: Any
    flag: str
    lacks: str


OPTIONS = {
    "zero_classifier": Option(False, "--zero-classifier", "no classifier to fill with zeros"),
    "with_preprocessing": Option(False, "--with-preprocessing", "weights alone, and no operations to put before them"),
    "precision": Option("fp32", "--precision", "float32 weights only"),
}


def chosen(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that differ from their defaults.

    Raises:
        TypeError: there is no such option.
    """
    if unknown := options.keys() - OPTIONS.keys():
        raise TypeError(f"an export has no option '{min(unknown)}'; there are {', '.join(OPTIONS)}")
    return {name: value for name, value in options.items() if value != OPTIONS[name].default}
