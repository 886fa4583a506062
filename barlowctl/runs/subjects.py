"""What a measuring command names, before anything of it is opened: other paths are refused without torch."""

from __future__ import annotations

import os
from pathlib import Path

from barlowctl.errors import UserError
from barlowctl.files import written_as_path
from barlowctl.runs import rundir
from barlowctl.runs.weights import (
    GRAPHS,
    OF_OTHER_FILES,
    TORCH_SUFFIXES,
    is_written_as_on_the_hub,
    refuse_no_repository,
)

WHAT = (
    "a run's name or directory, one of its checkpoints (RUN/checkpoints/step-00000123), a file or folder that "
    "`barlowctl export` wrote in any format but onnx, the authors' .pth files, a state dict (.safetensors, .pth) of a "
    "usual network, or a timm model name (resnet50: random weights; resnet50.a1_in1k or hf-hub:USER/NAME: published "
    "ones)"
)
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)


def is_file_of_weights(what: str) -> bool:
    """Whether a name is a file of weights or a folder with a network's configuration, and no run."""
    path = Path(what)
    if rundir.is_run(path) or rundir.run_of_checkpoint(path):
        return False
    return (path.is_file() and path.suffix in SUFFIXES) or (path / "config.json").is_file()


def refuse_other_paths(what: str) -> None:
    """Refuse a path that leads nowhere, or to a file of another kind; a bare word may be timm's model.

    Raises:
        UserError: there is nothing to measure.
    """
    path, why = Path(what), None
    if refuse_no_repository(what) or not written_as_path(what, (*SUFFIXES, *OF_OTHER_FILES)):
        return
    if path.is_file() and path.suffix not in SUFFIXES:
        why = "is a file of another kind"
        if kind := GRAPHS.get(path.suffix.lower()):
            why = (
                f"is {kind}, a graph for other runtimes, of which no network is made here: name the run or the "
                "checkpoint that it was exported from"
            )
            if (run := rundir.run_around(path.absolute())) is not None:
                why += f", which is '{run}'"
    elif not os.path.lexists(path) and not (rundir.runs_home() / what).exists():
        why = "does not exist"
        if is_written_as_on_the_hub(what):
            why += f"; a model on the Hugging Face Hub is named hf-hub:{what}"
    if why:
        raise UserError(f"'{what}' {why}", allowed=WHAT, next="barlowctl runs list")
