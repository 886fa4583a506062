"""Format "transformers": a folder of transformers' `timm_wrapper`, for AutoModel, AutoImageProcessor and pipelines.

It is the hub folder with the keys that transformers writes itself, and is loaded back by transformers; timm loads it,
too. transformers reads the preprocessing from config.json as timm does, so there is no preprocessor_config.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from barlowctl.exports.formats.folder_lines import limits_of, transformers_lines
from barlowctl.exports.formats.misfit import Misfit
from barlowctl.exports.formats.tolerance import SUMMED_IN_ANOTHER_ORDER
from barlowctl.packages import required

if TYPE_CHECKING:
    from torch import Tensor

    from barlowctl.exports.exported import ExportedModel


@dataclass(frozen=True)
class TransformersFolder:
    """A folder that `AutoModel` loads as a TimmWrapperModel: `model(images).pooler_output` are the features."""

    name: ClassVar[str] = "transformers"
    summary: ClassVar[str] = "a folder for transformers' AutoModel, AutoImageProcessor and pipelines"
    suffix: ClassVar[str] = ""
    tolerance: ClassVar[float] = SUMMED_IN_ANOTHER_ORDER

    def check(self, model: ExportedModel) -> None:
        if model.stem != "default":
            raise Misfit(
                f"transformers asks timm for the network, which has no argument for the stem {model.stem!r}",
                allowed="the stem 'default'",
                next="--format hub",
            )
        if not hasattr(model.backbone, "forward_features"):  # of one's own (docs/python.md)
            raise Misfit(
                f"transformers calls forward_features, which {model.architecture} has not",
                allowed="networks with timm's interface; of others the formats timm and onnx",
            )
        need = "format 'transformers' is loaded back by the package transformers"
        required(need, "transformers", extra="transformers", error=Misfit)

    def write(self, model: ExportedModel, path: Path) -> tuple[Path, ...]:
        from barlowctl.exports.formats.folder_config import timm_config, write_weights
        from barlowctl.exports.formats.model_card import write_card

        own = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperModel"], "do_pooling": True}
        return (*write_weights(model, {**own, **timm_config(model)}, path), write_card(model, "transformers", path))

    def load_lines(self, model: ExportedModel, path: Path) -> str:
        return transformers_lines(model, path)

    def features(self, model: ExportedModel, loaded: Any, pixels: Tensor) -> Tensor:
        """Of a model for classification: its scores."""
        output = loaded(model.input_of(pixels))
        features: Tensor = output.logits if "logits" in output else output.pooler_output
        return features

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Without its progress bars and warnings: that the classifier of the line for fine-tuning is new is known."""
        from transformers.utils import logging

        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()

    def fine_tuning_line(self, model: ExportedModel, classes: int) -> str:
        return (
            "from transformers import AutoModelForImageClassification; "
            f"model = AutoModelForImageClassification.from_pretrained(model.name_or_path, num_labels={classes})"
        )

    def check_loaded(self, model: ExportedModel, loaded: Any) -> None:
        from transformers import AutoImageProcessor

        from barlowctl.exports.formats.folder_config import check_data_config

        with self.quietly():
            processor = AutoImageProcessor.from_pretrained(loaded.name_or_path)
        check_data_config(processor.data_config, model.preprocessing, "transformers")

    def notes(self, model: ExportedModel) -> tuple[str, ...]:
        return tuple(limits_of(model))
