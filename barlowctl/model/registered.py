"""Networks by their name in timm: timm's own, and those that somebody's function is registered for."""

from __future__ import annotations

import difflib
import glob
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from barlowctl import own_code
from barlowctl.amounts import counted
from barlowctl.errors import UserError, did_you_mean, kind_of
from barlowctl.files import written_as_path

_TIMM_GIVES = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "num_classes", "in_chans")
_TAKES = (
    f"a function with the arguments {', '.join(_TIMM_GIVES)} that returns a network: timm gives it these, and "
    "model.backbone_args"
)
_A_VECTOR = "a tensor (N, F): one vector for each of N images"
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


class UnknownNetwork(UserError):
    """timm has no network of a name, and nobody has registered one."""


class Unpooled(UserError):
    """A network gives more than one vector for an image."""


def check_name(name: str) -> None:
    """Refuse what is no architecture that timm knows.

    Raises:
        UnknownNetwork: timm has none of the name.    UserError: it names weights.
    """
    if name in timm.list_models(glob.escape(name)):  # all 1,371 of them are sorted first, which takes longer
        return
    names = timm.list_models()
    on_hub = re.sub(r"^(hf[-_]hub:)?timm/", "", name)  # timm's own repositories there are named by their weights
    plain = on_hub.split(".")[0]
    if plain in names:
        weights = name if on_hub == name else f"hf-hub:timm/{on_hub}"
        raise UserError(
            f"backbone {name!r} names published weights, and a backbone is an architecture",
            allowed=f"the architecture alone, {plain!r}, and beside it --init {weights} to start from these weights",
            next=f"--set model.backbone={plain}",
        )
    _refuse_unregistered(name)
    what = f"timm {timm.__version__} has no model named {name!r}"
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    beside = f", nearest: {', '.join(near)}" if near else ""
    if written_as_path(name, (".safetensors", ".pth", ".pt")) and ":" not in name:  # hf-hub:timm/resnet50
        what = f"backbone {name!r} is a path, and a backbone is an architecture of timm's"
        beside = "; weights to start from are named with --init"
    else:
        beside += "; a network of your own is registered with timm first (docs/python.md, Parts of your own)"
    raise UnknownNetwork(
        what,
        allowed=f"any of its {len(names)} models{beside}",
        next="""python -c 'import timm; print(timm.list_models("*resnet*"))'""",
    )


def _refuse_unregistered(name: str) -> None:
    """Refuse a network that somebody had registered when the run of a recipe began, and nobody has now.

    Raises:
        UnknownNetwork: with what registers it.
    """
    if about := own_code.registered_then("network", name):
        raise UnknownNetwork(
            f"backbone {name!r} is somebody's, which {own_code.who(about)} registered with timm when the run of this "
            "recipe began, and nobody has in this process",
            allowed=own_code.FIRST,
            next=own_code.first_step(about),
        )


def own_function(name: str) -> Callable[..., nn.Module] | None:
    """The function that somebody has registered with timm as `name`; None: it is timm's own, or there is none."""
    if name not in timm.list_models(glob.escape(name)):
        return None
    function: Callable[..., nn.Module] = timm.models.model_entrypoint(name)
    return None if function.__module__.partition(".")[0] == "timm" else function


def record(name: str) -> dict[str, str]:
    """What a run notes of a network that is not timm's: where its function is; {} of timm's own."""
    function = own_function(name)
    if function is None:
        return {}
    return {"name": name, **own_code.source_of(function)}


def registering_lines(name: str) -> list[str]:
    """Python that registers somebody's network with timm, to be run before timm builds it; none of timm's own."""
    about = record(name)
    if not about:
        return []
    if about["module"] != "__main__" and about["module"] in sys.modules:
        return [f"import {about['module']}  # registers {name!r} with timm"]
    return [f"# first run what registers {name!r} with timm{': ' + about['file'] if about['file'] else ''}"]


def refused_by_own(name: str, error: Exception) -> UserError:
    """What to say where somebody's function does not build its network."""
    reason, unexpected = reason_of(error), _UNEXPECTED.search(str(error))
    if isinstance(error, TypeError) and unexpected and unexpected[1] not in _TIMM_GIVES:
        parameters = inspect.signature(own_function(name) or refused_by_own).parameters.values()
        own = [p.name for p in parameters if p.name not in _TIMM_GIVES and p.kind is not p.VAR_KEYWORD]
        return UserError(
            f"model.backbone_args has '{unexpected[1]}', which the function registered as {name!r} does not take"
            f"{did_you_mean(unexpected[1], own)}",
            allowed=", ".join(own) or "nothing: the function has no arguments of its own",
            next="correct model.backbone_args",
        )
    if "NoneType" in reason and "_args" in reason:  # timm notes its arguments in the network
        reason = "it returns None, and no network"
    return UserError(
        f"the function registered as {name!r} builds no network: {reason}",
        allowed=_TAKES,
        next=f"mend that function{_place_of(name)}",
    )


def check_features(features: Any, name: str) -> None:
    """Refuse what somebody's network of a name makes of one image where it is no vector of 32-bit numbers.

    Raises:
        UserError, Unpooled: it is not.
    """
    if not isinstance(features, Tensor):
        raise UserError(
            f"{name} returns {kind_of(features)} per image, and no tensor",
            allowed=_A_VECTOR,
            next="let forward return the features alone, as a tensor of torch's",
        )
    shape = tuple(features.shape)
    if features.ndim == 2 and len(features) != 1:
        raise Unpooled(
            f"{name} returns {counted(len(features), 'vector')} for one image: a tensor of shape {shape}",
            allowed=_A_VECTOR,
            next="let forward return one vector for each image",
        )
    if features.ndim != 2:
        raise Unpooled(
            f"{name} returns a tensor of shape {shape} per image, not one vector: pooled features are needed",
            allowed=_A_VECTOR,
            next="let forward return the mean over places: maps.mean((2, 3))",
        )
    if features.dtype != torch.float32:
        raise UserError(
            f"{name} gives {features.dtype} features",
            allowed="torch.float32",
            next="let forward return features.float()",
        )


def reason_of(error: BaseException) -> str:
    """The first line of an error, with the line of the network's code that it comes from where that is neither timm's
    nor torch's, or where the error has no words."""
    lines, name = str(error).strip().splitlines(), type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if not _within(frame, torch)), None)
    if frame is None or not frame.line:
        return lines[0] if lines else name
    file = Path(frame.filename)
    if lines and (_within(frame, timm) or Path(__file__).parent in file.parents):
        return lines[0]
    what = f"{name}: {lines[0]}," if lines else name
    return f"{what} at `{frame.line}` in {file.name}" + ("" if _within(frame, timm) else f", line {frame.lineno}")


def _place_of(name: str) -> str:
    """File and line of somebody's function, behind a comma; nothing of one in a notebook's cell."""
    function = own_function(name)
    return own_code.line_of(function) if function else ""


def _within(frame: traceback.FrameSummary, package: Any) -> bool:
    return Path(package.__file__).parent in Path(frame.filename).parents
