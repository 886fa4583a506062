"""A study's cells: each a recipe with a seed, trained, measured and recorded; and the files its results go into."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from barlowctl import datasets, launcher, shell, signals
from barlowctl.amounts import counted
from barlowctl.assemble import own_parts, precision
from barlowctl.assemble.data import ImageSet, choices_of, open_recipe_images
from barlowctl.assemble.diagnosis import diagnose
from barlowctl.assemble.finished import FinishedRun, open_run
from barlowctl.assemble.holdout import check_holdout, count
from barlowctl.assemble.job import prepare
from barlowctl.assemble.labelled import Labelled, open_labelled
from barlowctl.assemble.launch import launch
from barlowctl.assemble.machine import Runtime, choose_device
from barlowctl.assemble.model import preprocessing_of
from barlowctl.assemble.resolve import whole_set
from barlowctl.data import home
from barlowctl.errors import RunDiverged, RunStopped, UserError
from barlowctl.files import write_text
from barlowctl.measure.probing import KS, LABEL_FREE, MEASURED, probe_run
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir
from barlowctl.runs.history import steps_of
from barlowctl.study import figure, starts, studies, table
from barlowctl.study.directory import Cell, StudyDirectory
from barlowctl.train.events import Sink

Show = Callable[[Cell], AbstractContextManager[Sink]]


@dataclass(frozen=True)
class StudyImages:
    """The labelled splits that cells are measured on.

    dataset: as `--data` takes them, from anywhere. digests: split -> what identifies it. earlier: what versions before
    noted in their place (of images that are not packed, their path).
    """

    labelled: Labelled
    dataset: str
    digests: dict[str, str]
    earlier: dict[str, str]


def open_images(base: Recipe, data: str | None) -> StudyImages:
    """The images of a study.

    Raises:
        UserError: a split is missing or has no labels; several processes share the command.
    """
    launcher.refuse_several("ablate")
    dataset = base.data.dataset if data is None else data
    labelled = open_labelled(dataset, choices_of(preprocessing_of(base)))
    images = labelled.as_dict()
    return StudyImages(
        labelled,
        home.anywhere(dataset),
        {split: fingerprint.digest for split, fingerprint in labelled.fingerprints.items()},
        {split: images[split].get("content_hash", images[split]["path"]) for split in ("train", "test")},
    )


def open_directory(directory: StudyDirectory, images: StudyImages) -> None:
    """Make the study's directory, or check that it is of the same recipe and images; then its cells can be taken.

    Raises:
        UserError: it is of others, cannot be written to, or no cell can hold out what its recipe says, and nothing is
            made.
    """
    if not directory.exists:
        _refuse_holdout(directory.cells, images)
    directory.open(images.digests, dataset=images.dataset, earlier=images.earlier)
    _refuse_holdout(directory.cells, images)


def _refuse_holdout(cells: Sequence[Cell], images: StudyImages) -> None:
    """Refuse a held-out part that these images do not have in any of the cells, before one waits in a queue.

    Raises:
        UserError: that of the first cell; see `check_holdout`.
    """
    source = images.labelled.opened or images.labelled.train
    refused: list[UserError] = []
    for cell in cells:
        try:
            usable, held = count(source, source.num_samples, cell.recipe)
            check_holdout(usable, cell.recipe, held)
            return
        except UserError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def counter_of_trained_on(base: Recipe, data: str | None) -> Callable[[Recipe], int]:
    """How many images of the training split a variant is trained on, by its recipe.

    Raises:
        UserError: they are not here, and their number is not known.
    """
    source: ImageSet | None
    try:
        opened = open_recipe_images(base, "train", data)
        source, images = opened, opened.num_samples
    except UserError:
        size = datasets.training_images(base.data.dataset)
        if data is not None or size is None:
            raise
        source, images = None, size

    def trained_on(recipe: Recipe) -> int:
        usable, held = count(source, images, recipe)
        return usable - held

    return trained_on


def run_cell(cell: Cell, labelled: Labelled, runtime: Runtime, data: str | None, show: Show) -> bool:
    """Train (or go on training) and measure a cell unless it is finished; False where another process has it.

    A run whose loss diverges is a result: it is recorded as failed, with the reason, and not run again.

    Raises:
        RunStopped: a signal came; the state is saved and the cell stays open.
    """
    with cell.claim() as free, _stopped_by_signals(cell):
        if not free:
            return False
        if cell.record is not None:
            return True
        try:
            if not rundir.result_of(cell.path):
                begun = (cell.path / "recipe.toml").is_file()
                _refuse(cell, own_parts.note_changed(cell.path) if begun else ())
                recipe = cell.recipe if begun else starts.pinned(cell.path.parents[2], cell.recipe)
                job = prepare(recipe, runtime, data, resume=cell.path if begun else None)
                job.earlier_precision = precision.shared(cell.path.parents[2], cell.recipe, job.device)
                with show(cell) as sink:
                    launch(job, cell.path, sink, resume=begun)
        except RunDiverged as diverged:
            cell.finish(_record(cell) | {"failed": diverged.message, "seconds": {}})
            return True
        trained = time.monotonic()
        run = open_run(cell.path)
        _refuse(cell, run.notes)
        measures, notes = measure_cell(run, labelled, runtime)
        source = labelled.opened or labelled.train
        usable, held = count(source, source.num_samples, cell.recipe)
        notes += filter(None, [whole_set(cell.recipe, usable - held)])
        seconds = {**_training(cell.path), "measure": time.monotonic() - trained}
        cell.finish(_record(cell) | {"measures": measures, "notes": notes, "seconds": seconds})
    return True


def _refuse(cell: Cell, notes: Sequence[str]) -> None:
    """Refuse a cell that something is to be noted of: its numbers would not be of its recipe, or of the code as it is.

    Raises:
        UserError: there is a note.
    """
    if notes:
        raise UserError(f"'{cell.path}': {notes[0]}", next=f"{shell.line('rm', '-r', cell.path)} && barlowctl ...")


@contextmanager
def _stopped_by_signals(cell: Cell) -> Iterator[None]:
    """SIGTERM, SIGUSR1 and SIGHUP end what is done around the training too: there is no state in it to lose."""

    try:
        with signals.ended_as_by_interrupt():
            yield
    except signals.Ended as ended:
        if ended.number == signal.SIGINT:
            raise
        message = f"stopped while '{cell.path}' was prepared or measured; what was trained is kept"
        raise RunStopped(message) from ended


def _record(cell: Cell) -> dict[str, Any]:
    return {"variant": cell.variant.name, "overrides": list(cell.variant.overrides), "seed": cell.seed}


def _training(run: Path) -> dict[str, float]:
    """How long the whole training took, by its own account."""
    result = rundir.result_of(run)
    return {"train": result["wall_seconds"], "train_cpu": result["cpu_seconds"]}


def measure_cell(run: FinishedRun, labelled: Labelled, runtime: Runtime) -> tuple[dict[str, float | None], list[str]]:
    """kNN and linear accuracy in percent, None where they mean nothing, and what collapse shows in first.

    Returns the measures, and what changes their meaning: to be said beside them.
    """
    _, values = next(probe_run(run, labelled, runtime))
    device = choose_device(runtime.device)
    diagnosis = diagnose(run.method.to(device), labelled.train, run.recipe, runtime, device)
    notes = [f"no {name}: {values[key]['reason']}" for key, name in MEASURED.items() if values[key].get("reason")]
    neighbours = values["knn"].get("neighbours", {}).get(f"k{KS[0]}", KS[0])
    if neighbours < KS[0]:
        notes.append(f"kNN: k is {KS[0]} but the bank holds {counted(neighbours, 'image')}: all of them vote")
    measures = {
        "knn": values["knn"]["top1"],
        "linear_top1": values["linear"]["top1"],
        "linear_top5": values["linear"]["top5"],
        **{key: values.get(key) for key in ("effective_rank", "feature_spread", *LABEL_FREE)},
        **(diagnosis.values() if diagnosis else {}),
    }
    return measures, [*notes, *labelled.notes]


def write_results(directory: StudyDirectory, *, figures: bool = True) -> tuple[list[Path], str | None]:
    """The table (JSON, CSV, Markdown, LaTeX) and the figure (PNG, SVG, PDF) of every study, as far as it is.

    Returns:
        The files, and why there are no figures where there are none.
    """
    _rename_all_layers(directory.out)
    files, why = [], None
    for study in directory.studies:
        rows = table.rows(directory, study)
        stem = directory.out / study.name
        texts = {
            "json": json.dumps(table.document(directory, study, rows), indent=2) + "\n",
            "csv": table.as_csv(rows),
            "md": table.markdown(study, rows),
            "tex": table.latex(study, rows, directory.base.name),
        }
        for suffix, text in texts.items():
            write_text(Path(f"{stem}.{suffix}"), text, durable=False)  # they can be made again
            files.append(Path(f"{stem}.{suffix}"))
        if figures:
            try:
                files += figure.save(study, rows, directory.base.name, stem)
            except UserError as error:
                why = f"no figures: {error.message}; {error.next}"
    return files, why


def _rename_all_layers(out: Path) -> None:
    """Give the files of the study of all projector layers alike its own name.

    Until November 2026 it was named `projector` and said to be Figure 4, which varies the last layer alone.
    """
    file = out / "projector.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(file.read_text(encoding="utf-8"))
        if not any(row["variant"].startswith("width-") for row in document["rows"]):
            return
        own = studies.projector_width((1,))
        document |= {"study": own.name, "title": own.title, "source": own.source, "note": own.note}
        write_text(out / "projector-width.json", json.dumps(document, indent=2) + "\n")
        for before in out.glob("projector.*"):
            if before != file:
                before.replace(before.with_name(f"projector-width{before.suffix}"))
        file.unlink()


def finished_of_all_layers(directory: StudyDirectory) -> str | None:
    """Where Figure 4 is shown: that its directory has cells of the other study, which had its name before."""
    if not any(study.name == "projector" for study in directory.studies):
        return None
    study = studies.build("projector-width", directory.base)
    other = replace(directory, studies=(study,), seeds=(), requested=None)
    names = [v.name for v in study.variants if v.name != study.baseline and other.seeds_of(study, v)]
    if not names or any(shown_study.name == study.name for shown_study in directory.studies):
        return None
    return f"finished with all layers alike, another study: {', '.join(names)} (--projector-width shows it)"


def read_progress(cell: Cell) -> tuple[int, int] | None:
    """(steps done, steps in all) of a cell that is training, from what its run has recorded; None if nothing is."""
    with suppress(OSError, ValueError, KeyError, IndexError):
        about = json.loads((cell.path / "run.json").read_text(encoding="utf-8"))
        with (cell.path / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            last = json.loads(file.read().splitlines()[-1])
        return int(last["step"]), steps_of(about["length"])
    return None
