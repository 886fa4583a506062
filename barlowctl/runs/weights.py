"""Weights that a training is to start from, by their name: looked for before anything of them is opened."""

from __future__ import annotations

import os
import re
from pathlib import Path

from barlowctl import shell
from barlowctl.errors import UserError
from barlowctl.files import written_as_path
from barlowctl.runs import rundir

WHAT = (
    "a run's name or directory, or one of its checkpoints, a file or folder that `barlowctl export` wrote, the "
    "authors' .pth files, a state dict (.safetensors, .pth), a Hugging Face folder, or a timm model with published "
    "weights (resnet50.a1_in1k)"
)
TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".torch")
"""Of files of torch.save; Lightning's are .ckpt, VISSL's .torch."""
GRAPHS = {
    ".onnx": "an ONNX file",
    ".tflite": "a TFLite file",
    ".pb": "a TensorFlow graph",
    ".engine": "a TensorRT engine",
}
"""Endings of files for other runtimes, and what such a file is."""
OF_OTHER_FILES = (*GRAPHS, ".npz", ".npy", ".h5", ".zip", ".json", ".toml", ".beton")
"""Endings of files that hold no weights to start from, and that no name of timm's has either."""
HUB = ("hf-hub:", "hf_hub:")
"""How timm's names of models on the Hugging Face Hub begin: hf-hub:timm/resnet50.a1_in1k."""
_REPOSITORY = re.compile(r"([\w.-]+/)?[\w.-]+(@[\w./-]+)?")
_OF_TIMM = re.compile(r"timm/[\w-]+(\.[\w-]+)?")
"""A name of timm's on the Hub, as its page has it."""


def named_from_anywhere(name: str) -> str:
    """What weights are called in a recipe that may be read in another folder: a path in full, another name as it is."""
    path = Path(name).expanduser()
    is_path = path.is_file() or rundir.is_run(path) or (path / "config.json").is_file()
    is_path = is_path or (len(path.parts) > 1 and ":" not in path.parts[0] and not is_written_as_on_the_hub(name))
    return os.path.abspath(path) if is_path else name


def is_written_as_on_the_hub(name: str) -> bool:
    """Whether a name is `timm/resnet50.a1_in1k`, as on that model's page, and no path leads there."""
    return _OF_TIMM.fullmatch(name) is not None and not os.path.lexists(name)


def refuse_no_repository(what: str) -> bool:
    """Whether a name is one of a repository on the Hugging Face Hub.

    Raises:
        UserError: it begins as one, and what follows names none: nothing, `/`, or more parts than a user and a name.
    """
    if not what.startswith(HUB):
        return False
    if not _REPOSITORY.fullmatch(what.partition(":")[2]):
        raise UserError(
            f"'{what}' names no repository on the Hugging Face Hub",
            allowed="hf-hub:USER/NAME, of one revision hf-hub:USER/NAME@REVISION; timm's own without hf-hub: "
            "(resnet50.a1_in1k)",
            next=shell.line("python", "-c", 'import timm; print(timm.list_pretrained("*resnet50*"))'),
        )
    return True


def _refuse_the_hubs_own_way(what: str) -> None:
    if is_written_as_on_the_hub(what):
        raise UserError(
            f"'{what}' does not exist; a model on the Hugging Face Hub is named hf-hub:{what}",
            allowed=WHAT,
            next=f"--init hf-hub:{what}",
        )


def refuse_graph(what: str) -> None:
    """Refuse a network as another runtime has it: its layers are joined, and its weights renamed.

    Raises:
        UserError: it is one; next is the run in whose directory it lies, or a file of weights beside it.
    """
    path = Path(what)
    if (kind := GRAPHS.get(path.suffix.lower())) is None or not path.is_file():
        return
    why = f"'{what}' is {kind}, whose layers are joined for a runtime: no training starts from it"
    if (beside := _weights_beside(path)) is not None:
        raise UserError(f"{why}; '{beside}' has weights", allowed=WHAT, next=shell.line("--init", beside))
    raise UserError(
        f"{why}; the program that made it saves its weights by torch.save(model.state_dict(), 'weights.pth')",
        allowed=WHAT,
        next="barlowctl runs list",
    )


def _weights_beside(path: Path) -> Path | None:
    """The run in whose directory a file lies, else weights in its folder, those of its own name first; None: none."""
    if (run := rundir.run_around(path.absolute())) is not None:
        return run
    beside = [file for file in path.parent.iterdir() if file.suffix in (".safetensors", *TORCH_SUFFIXES)]
    files = [file for file in beside if file.is_file() and file.suffixes[-2:] != [".projector", ".safetensors"]]
    return min(files, key=lambda file: (file.stem != path.stem, file), default=None)


def refuse_missing(what: str) -> None:
    """Refuse what can only be a path, and leads to no file or folder; a bare word may be a run, or timm's model.

    Raises:
        UserError: it does.
    """
    path = Path(what)
    if any(place.is_file() or place.is_dir() for place in (path, rundir.runs_home() / what)):
        return
    if refuse_no_repository(what) or "://" in what:
        return
    _refuse_the_hubs_own_way(what)
    if written_as_path(what, (".safetensors", *TORCH_SUFFIXES, *OF_OTHER_FILES)):
        why = "leads nowhere" if path.is_symlink() else "is no file or folder" if path.exists() else "does not exist"
        raise UserError(f"'{what}' {why}", allowed=WHAT, next="barlowctl runs list")
