"""timm's published weights by name, and what a name stands for where it may be a path, a run or a timm model."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub.constants
import timm
from torch import nn

from barlowctl import shell
from barlowctl.errors import UserError, did_you_mean
from barlowctl.exports.keys import one_line
from barlowctl.model import build_backbone
from barlowctl.runs import rundir
from barlowctl.runs.weights import HUB, refuse_no_repository


def locate(what: str) -> tuple[Path, tuple[str, ...]]:
    """Where what is named lies: a path, else the run of that name; and what to say where a run and a model share it."""
    path, run = Path(what), rundir.runs_home() / what
    if rundir.run_of_checkpoint(run):
        return run, ()
    is_path = rundir.is_run(path) or path.is_file() or (path / "config.json").is_file()  # another folder is neither
    if is_path or not rundir.is_run(run):
        return path, ()
    if what.partition(".")[0] in timm.list_models():
        return path, (f"'{what}' is timm's model; the run of that name is {run}",)
    return run, ()


def untrained(architecture: str, *, allowed: str) -> nn.Module:
    """timm's model of that name with fresh weights, from torch's current generator.

    Args:
        allowed: what else could have been named.

    Raises:
        UserError: timm has none.
    """
    names = timm.list_models()
    if architecture not in names:
        start = re.sub(r"[^a-z0-9_]", "", architecture.lower())[:6]
        runs = [file.parent.name for file in rundir.runs_home().glob("*/recipe.toml")]
        raise UserError(
            f"'{architecture}' is neither a run, a path nor a timm model{did_you_mean(architecture, [*runs, *names])}",
            allowed=allowed,
            next=shell.line(
                "python",
                "-c",
                f'import timm; print(timm.list_models("*{start}*"))',
            ),
        )
    return build_backbone(architecture, in_chans=3)


def tags_of(architecture: str) -> list[str]:
    """What timm calls the weights that were published of a model; the first is what timm takes without a tag."""
    return [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{architecture}.*")]


def published(name: str, *, allowed: str) -> nn.Module:
    """timm's model with published weights and no classifier: `resnet50.a1_in1k`.

    Args:
        allowed: what else could have been named.

    Raises:
        UserError: timm has no such weights, or they could not be had.
    """
    architecture, _, tag = name.partition(".")
    if not refuse_no_repository(name):
        untrained(architecture, allowed=allowed)
    tags = tags_of(architecture)
    if tag not in tags and not name.startswith(HUB):
        raise UserError(
            f"timm has no weights '{tag}' of {architecture}{did_you_mean(tag, tags)}",
            allowed=", ".join(tags) or f"{architecture} alone: random weights",
            next=shell.line("python", "-c", f'import timm; print(timm.list_pretrained("{architecture}*"))'),
        )
    offline = _unreachable_hub()
    try:
        with _from_cache_alone(bool(offline)):
            model: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # whatever the hub's client raises: no network, no cache, no space
        why = f"{type(error).__name__}: {one_line(error)[:200]}"
        if offline and (on_hub := _on_hub(name)):
            raise _offline(name, on_hub, offline) from error
        raise UserError(
            f"the weights of {name} could not be had: {why}",
            allowed="a network, once: they are downloaded and kept; without one, a file or folder that was brought "
            "from elsewhere",
            next=shell.line("python", "-c", f'import timm; timm.create_model("{name}", pretrained=True)'),
        ) from error
    return model


def _on_hub(name: str) -> str:
    """What the Hub calls weights that timm has by this name; nothing: they are elsewhere, as GC ViT's are."""
    if name.startswith(HUB):
        return name
    configuration = timm.get_pretrained_cfg(name)
    return "" if configuration is None else str(configuration.hf_hub_id or "")


def _offline(name: str, on_hub: str, host: str) -> UserError:
    """That a name needs a network, and the line that makes a folder of those weights where there is one."""
    repository, _, revision = on_hub.rpartition(":")[2].partition("@")
    folder = repository.rpartition("/")[2]
    return UserError(
        f"the weights of {name} could not be had: there is no network here ({host} is not known), and they were not "
        "downloaded before",
        allowed=f"a network, once: they are downloaded and kept; or a file or folder on this machine. Where there is a "
        f"network, the next line makes the folder {folder}: bring it here and name it",
        next=shell.line(
            "hf",
            "download",
            repository,
            "config.json",
            "model.safetensors",
            *(("--revision", revision) if revision else ()),
            "--local-dir",
            folder,
        ),
    )


def _unreachable_hub() -> str:
    """The name of the hub's host where it cannot be resolved; "" where it can, or where a proxy would do that."""
    host = urlsplit(huggingface_hub.constants.ENDPOINT).hostname or ""
    if getproxies():
        return ""
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return host
    return ""


@contextmanager
def _from_cache_alone(offline: bool) -> Iterator[None]:
    """Where there is no network, the hub's client looks into its cache at once: else it asks again for a minute."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before
