"""Format "onnx": one .onnx file, a graph that runtimes without torch compute."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from barlowctl.errors import UserError
from barlowctl.exports.formats.misfit import Misfit
from barlowctl.exports.formats.options import Precision
from barlowctl.exports.formats.silent import Silent
from barlowctl.exports.formats.tolerance import HALF_PRECISION, OTHER_KERNELS
from barlowctl.packages import required

if TYPE_CHECKING:
    from torch import Tensor

    from barlowctl.exports.exported import ExportedModel
    from barlowctl.exports.formats.onnx_network import OnnxNetwork

OPSET = 18
"""Version of ONNX's operators: the one that torch's exporter writes without converting."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 2**31 - 2**20
"""Bytes of weights that fit into one file: protobuf ends at 2 GiB, and the graph takes some of it."""
_BYTES = {"fp32": 4, "fp16": 2}
_INSTEAD = "--format timm"


@dataclass(frozen=True)
class OnnxFile(Silent):
    """A graph with the weights in it, for batches of any size of images as large as the run's crop.

    Attributes:
        with_preprocessing: "images" are uint8 (N, crop, crop, channels), as they come from a decoder, and the graph
            normalises them; else they are normalised float32 (N, channels, crop, crop). Resizing and cropping are
            outside.
        precision: of the weights and of what is computed with them. With "fp16" too, "images" are as above and
            "features" float32, and the normalisation is computed in float32.
    """

    name: ClassVar[str] = "onnx"
    summary: ClassVar[str] = "a file for ONNX Runtime and others, which need no torch"
    suffix: ClassVar[str] = ".onnx"

    with_preprocessing: bool = False
    precision: Precision = "fp32"

    @property
    def tolerance(self) -> float:
        return HALF_PRECISION if self.precision == "fp16" else OTHER_KERNELS

    def check(self, model: ExportedModel) -> None:
        if self.precision not in _BYTES:
            raise UserError(f"unknown precision '{self.precision}' of an export", allowed=", ".join(_BYTES))
        required(f"format 'onnx' needs the packages {', '.join(PACKAGES)}", *PACKAGES, extra="onnx", error=Misfit)
        numbers = sum(value.numel() for value in model.backbone.state_dict().values())
        if numbers * _BYTES[self.precision] > LARGEST:
            fits = self.precision == "fp32" and numbers * _BYTES["fp16"] <= LARGEST
            raise Misfit(
                f"an ONNX file holds 2 GiB, and the weights of {model.architecture} in {self.precision} are "
                f"{numbers * _BYTES[self.precision] / 2**30:.1f} GiB",
                next="--precision fp16" if fits else _INSTEAD,
            )

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        import onnx
        from torch.onnx import OnnxExporterError

        from barlowctl.exports.formats.onnx_network import OnnxNetwork
        from barlowctl.exports.keys import one_line

        network = OnnxNetwork(model, self.with_preprocessing, self.precision)
        try:
            try:
                program = _program(network)
            except OnnxExporterError:  # of some networks torch writes no fused attention
                if not network.write_out_attention():
                    raise
                program = _program(network)
            proto = program.model_proto
            _forget_sources(proto)
            onnx.helper.set_model_props(proto, self._metadata(model))
            onnx.checker.check_model(proto)
        except (OnnxExporterError, onnx.checker.ValidationError) as error:
            why = one_line(_first_cause(error))
            raise Misfit(f"torch cannot write {model.architecture} as ONNX: {why}", next=_INSTEAD) from error
        onnx.save(proto, path)
        return (path,)

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        return "\n".join(
            [
                "import onnxruntime",
                f'session = onnxruntime.InferenceSession({str(path)!r}, providers=["CPUExecutionProvider"])',
                f"# images: {self._images(model)}, as a numpy array",
                'model = lambda images: session.run(["features"], {"images": images})[0]',
            ]
        )

    def features(self, model: ExportedModel, loaded: Any, pixels: Tensor) -> Tensor:
        import torch

        images = pixels if self.with_preprocessing else model.input_of(pixels)
        features = torch.from_numpy(loaded(images.numpy()))
        if self.precision == "fp16" and not features.isfinite().all():
            raise Misfit(
                f"in fp16 {model.architecture} computes numbers above 65504, the largest there is: its features "
                "are not finite; nothing was written",
                next="--precision fp32",
            )
        return features

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        """A graph for inference is not trained further."""
        return ""

    def check_loaded(self, model: ExportedModel, loaded: Any) -> None:
        """What the file says of itself is read back by the tests; the features are compared elsewhere."""

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        normalised = "inside: give it pixels as they are" if self.with_preprocessing else "by whoever calls it"
        return (
            f"ONNX opset {OPSET}, {self.precision}, a batch of any size: images are {self._images(model)}, and "
            f"are normalised {normalised}; resizing and cropping are outside the file",
        )

    def _images(self, model: ExportedModel) -> str:
        crop, channels = model.preprocessing.crop, model.preprocessing.channels
        if self.with_preprocessing:
            return f"uint8 (N, {crop}, {crop}, {channels})"
        return f"float32 (N, {channels}, {crop}, {crop})"

    def _metadata(self, model: ExportedModel) -> dict[str, str]:
        """The file's metadata_props: those of the safetensors files, and what only a graph has."""
        return {
            **model.metadata(),
            "format": "onnx",
            "opset": str(OPSET),
            "precision": self.precision,
            "images": self._images(model),
            "normalised_inside": json.dumps(self.with_preprocessing),
            "tolerance": repr(self.tolerance),
        }


def _program(network: OnnxNetwork) -> Any:
    """What torch makes of the network, for batches of any size.

    Raises:
        OnnxExporterError: it cannot.
    """
    import torch

    with _without_logs():
        program = torch.onnx.export(
            network,
            (network.example(),),
            dynamo=True,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program


@contextmanager
def _without_logs() -> Iterator[None]:
    """Meanwhile the exporter's packages log errors alone, and not what they could not fold in the graph.

    Nor do they print: onnxscript 0.6 says on standard output, where JSON may be written, what it changed.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_cause(error: BaseException) -> BaseException:
    """What torch's exporter met: its own errors say in which of its steps, and what to do for torch's authors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _forget_sources(proto: Any) -> None:
    """Take out what torch notes of where each operation was in Python: lines and paths of this machine."""
    parts: Sequence[Any] = (proto.graph, *proto.functions)
    for part in parts:
        del part.metadata_props[:]
        for listed in ("node", "value_info", "input", "output", "initializer"):
            for entry in getattr(part, listed, ()):
                if hasattr(entry, "metadata_props"):
                    del entry.metadata_props[:]
                entry.doc_string = ""
