"""A run as Python has it: its recipe, its records, the state it keeps as its best, its exports."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

from barlowctl.api.arguments import checked
from barlowctl.api.network import Network
from barlowctl.api.process import as_a_command
from barlowctl.assemble.exporting import best_state, default_folder, default_target, model_of, name_of
from barlowctl.assemble.finished import FinishedRun
from barlowctl.assemble.run_recipe import recipe_of
from barlowctl.exports import ExportedFolder, ExportReport
from barlowctl.exports import export as write_export
from barlowctl.exports import export_all as write_all
from barlowctl.exports.formats.options import FormatOptions
from barlowctl.measure.publication import Publication, Terms, prepare, push
from barlowctl.measure.subjects import Subject, open_subject
from barlowctl.methods import Method
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import history, rundir


class Run(Network):
    """A run that `pretrain` made, finished or not; read when something of it is asked for.

    Args:
        run: its name or directory, or one of its checkpoints (RUN/checkpoints/step-00000123).

    Raises:
        UserError: not a run.
    """

    @checked
    def __init__(self, run: str | PathLike[str]) -> None:
        with as_a_command():
            self.state = rundir.find_state(Path(run))
        self.path = rundir.run_of_checkpoint(self.state) or self.state
        self.name = str(run)

    def __fspath__(self) -> str:
        return str(self.state)

    @cached_property
    def _of_run(self) -> Subject:
        with as_a_command():
            return open_subject(str(self.state))

    @property
    def subject(self) -> Subject:
        return self._of_run

    @property
    def finished(self) -> bool:
        """Whether it came to its end; otherwise `pretrain(resume=run)` goes on."""
        with as_a_command():
            return bool(rundir.result_of(self.path))

    @cached_property
    def recipe(self) -> Recipe:
        """The complete recipe, every default included."""
        with as_a_command():
            return recipe_of(self.path)

    @property
    def step(self) -> int:
        """The optimizer step of its weights."""
        return self._run.step

    @property
    def result(self) -> Mapping[str, Any]:
        """The values of result.json (`loss`, `knn`, `steps`, ...); empty until the run is finished."""
        return history.read(self.path).result

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, oldest first, each with its "event" (step, epoch, evaluation)."""
        return [dict(record) for record in history.read(self.path).records]

    @property
    def notices(self) -> list[str]:
        """What was said of its images, its evaluations or a collapse while it trained, each once."""
        return history.read(self.path).notices

    def method(self) -> Method:
        """A copy of the method with backbone and heads as they were trained, on the CPU, in evaluation mode."""
        return copy.deepcopy(self._run.method).cpu().eval()

    def best(self) -> Run:
        """The state that a run with train.keep_best keeps as its best.

        Raises:
            UserError: it keeps none.
        """
        with as_a_command():
            return Run(best_state(self.state)[1])

    @checked
    def export(
        self,
        format: str = "timm",
        out: str | PathLike[str] | None = None,
        *,
        with_projector: bool = False,
        **options: Unpack[FormatOptions],
    ) -> ExportReport:
        """Write the backbone for other libraries, loaded back and compared, as `barlowctl export` does.

        Args:
            format: "timm", "torchvision", "hub", "transformers" or "onnx". out: the file (or folder), new;
                None: in the run.
            with_projector: write the projector's weights too.
            options: of the format: zero_classifier of "torchvision", with_preprocessing and precision of "onnx"; see
                the command.

        Raises:
            UserError: the format cannot hold the network, or there is something at `out`.
        """
        with as_a_command():
            target = default_target(self.state, format) if out is None else Path(out)
            return write_export(model_of(self._run), target, format, with_projector=with_projector, **options)

    @checked
    def export_all(
        self, out: str | PathLike[str] | None = None, *, with_projector: bool = False, **options: Unpack[FormatOptions]
    ) -> ExportedFolder:
        """Write every format that holds the network into one folder, as `barlowctl export --all` does.

        Args:
            out: the folder, new; None: in the run. with_projector: write the projector's weights too, once.
            options: of the formats that have them, as of `export`.

        Raises:
            UserError: no format holds the network, or there is something at `out`.
        """
        with as_a_command():
            folder, name = default_folder(self.state) if out is None else Path(out), name_of(self.state)
            return write_all(model_of(self._run), folder, name, with_projector=with_projector, **options)

    @checked
    def push(
        self,
        repository: str,
        license: str,
        *,
        license_file: str | PathLike[str] | None = None,
        public: bool = False,
        overwrite: bool = False,
        all_formats: bool = False,
        with_projector: bool = False,
        dry_run: bool = False,
        out: str | PathLike[str] | None = None,
        progress: bool = False,
        **options: Unpack[FormatOptions],
    ) -> Publication:
        """Push a repository to the Hugging Face Hub, as `barlowctl export --push USER/NAME` does; nobody is asked.

        Args:
            repository: USER/NAME. license: of the weights, as the Hub calls it. license_file: its text.
            public: anyone may see it; else it is private. overwrite: a repository that already holds something gets a
                new commit. all_formats: torchvision's file and ONNX too, where they hold the network.
            with_projector: the projector's weights too. dry_run: push nothing; needs no network.
            out: a new folder that the files are written into and stay in; None: they are gone afterwards.
            progress: let huggingface_hub draw bars on standard error.
            options: of the formats of `all_formats`, as of `export`.

        Returns:
            files, the card, what was left out and why, and `commit`, which is None where it was not pushed.

        Raises:
            UserError: no such license or name, no token, no right, the repository holds something, no network.
        """
        text = None if license_file is None else Path(license_file)
        terms = Terms(repository=repository, license=license, license_file=text, public=public, overwrite=overwrite)
        with as_a_command(), tempfile.TemporaryDirectory(prefix="barlowctl-push-") as temporary:
            folder = Path(temporary) / "repository" if out is None else Path(out)
            terms.check()
            prepared = prepare(
                self._run, terms, folder, all_formats=all_formats, with_projector=with_projector, **options
            )
            return prepared if dry_run else push(prepared, terms, progress=progress)

    @property
    def _run(self) -> FinishedRun:
        run = self.subject.run
        assert run is not None
        return run
