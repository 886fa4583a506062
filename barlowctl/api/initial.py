"""Weights of a module in hand as a file or folder: of a run that starts from them, and of an export."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike, fspath
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from barlowctl.assemble.weights import Weights
from barlowctl.data import home
from barlowctl.errors import UserError, kind_of
from barlowctl.exports.keys import without_classifier
from barlowctl.files import atomic_write
from barlowctl.measure.modules import copy_of
from barlowctl.runs.weights import named_from_anywhere

CONFIG, STATE = "config.json", "model.safetensors"


@contextmanager
def weights_named(init: str | PathLike[str] | nn.Module, begun: Callable[[], bool]) -> Iterator[str]:
    """What a recipe calls weights to start from: those of a module lie in the data home.

    Args:
        begun: whether a run began in the block. Where it is refused before, the weights that were written for it are
            taken away, and the error speaks of the module.

    Raises:
        UserError: a module that cannot be copied, or that has no weights.
    """
    if not isinstance(init, nn.Module):
        yield named_from_anywhere(fspath(init))
        return
    place = home.data_home() / "weights"
    before = set(place.iterdir()) if place.is_dir() else set()
    path = written(init, place)
    try:
        with named_as_module(path, init):
            yield str(path)
    except UserError:
        if not begun() and (folder := path.parent if path.name == STATE else path) not in before:
            shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def named_as_module(path: Path, module: nn.Module) -> Iterator[None]:
    """An error of the block that names the file of a module's weights speaks of the module."""
    try:
        yield
    except UserError as error:
        error.message = error.message.replace(f"'{path}'", f"the module, {kind_of(module)},")
        error.args = (error.message,)
        raise


def written(module: nn.Module, place: Path) -> Path:
    """The file of a module's weights, in float32; of a network of timm's a folder that says which network it is.

    The name says which weights these are, so that the same ones are written once.

    Args:
        place: the folder to write it in.

    Raises:
        UserError: a module that cannot be copied, or that has no weights.
    """
    network = copy_of(module)
    state = {key: value.detach().contiguous().clone() for key, value in network.state_dict().items()}
    if not state:
        raise UserError(f"{kind_of(module)} has no weights", allowed="a network with weights")
    config = _config_of(network, state)
    digest = hashlib.sha256(f"{Weights('', '', state).sha256} {config}".encode()).hexdigest()[:12]
    folder = place / f"{type(network).__name__}-{digest}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), atomic_write(folder, new=True, durable=False) as temporary:  # another rank's
            temporary.mkdir()
            save_file(state, temporary / STATE)
            if config:
                (temporary / CONFIG).write_text(config, encoding="utf-8")
    return folder if config else folder / STATE


def _config_of(network: nn.Module, state: dict[str, Tensor]) -> str:
    """What timm notes of a network of its own, where that builds one of the same weights; "" of any other network."""
    if not getattr(network, "pretrained_cfg", None):
        return ""
    logger = logging.getLogger("timm")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # that it averages mean and std over channels, as is done here too
        with tempfile.TemporaryDirectory(prefix="barlowctl-") as folder:
            timm.models.save_for_hf(network, folder, safe_serialization=True)
            config = (Path(folder) / CONFIG).read_text(encoding="utf-8")
        noted = json.loads(config)
        channels = noted["pretrained_cfg"]["input_size"][0]
        with torch.device("meta"):
            built = timm.create_model(noted["architecture"], **{"in_chans": channels, **noted.get("model_args", {})})
    except Exception:  # of a network that was changed since it was made: timm raises what it likes
        return ""
    finally:
        logger.setLevel(level)
    expected = built.state_dict()
    shapes = [
        {key: value.shape for key, value in without_classifier(part, other).items()}
        for part, other in ((expected, state), (state, expected))
    ]
    return config if shapes[0] == shapes[1] else ""
