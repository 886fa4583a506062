"""A measurement from its beginning to the file of its result, which several of them may add to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barlowctl.amounts import counted
from barlowctl.assemble.data import choices_of
from barlowctl.assemble.labelled import Labelled, open_labelled, open_with_or_without_labels
from barlowctl.assemble.machine import Runtime
from barlowctl.assemble.run_images import changed_since_training
from barlowctl.data.images.unreadable import OnMeasuring
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.errors import UserError
from barlowctl.measure.identity import identify, reserve, result_file, stem_of
from barlowctl.measure.probing import probe
from barlowctl.measure.subjects import Subject, images_of
from barlowctl.measure.tasks import Tasks
from barlowctl.output_paths import Outputs, check_file, whole
from barlowctl.recipe.protocol import PROTOCOLS
from barlowctl.runs import rundir
from barlowctl.train.events import Sink


@dataclass(frozen=True)
class Probed:
    """What was measured of a network.

    Attributes:
        values: the result as its file has it, accuracies in percent: `values["knn"]["top1"]`.
        file: that it is in; None: it could not be written. folder: accuracy by class, confusion, pictures.
        notes: what should be known of the images and of the numbers.
        problems: what could not be written, a sentence each.
    """

    values: Mapping[str, Any]
    file: Path | None
    folder: Path
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __repr__(self) -> str:
        numbers = [f"{name}={value:.2f}" for name in ("knn", "linear") if (value := getattr(self, name)) is not None]
        notes = [counted(len(self.notes), "note")] if self.notes else []
        parts = [repr(self.values["subject"]), *numbers, f"file={str(self.file)!r}", *notes]
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def knn(self) -> float | None:
        """Top-1 of the test images with 20 neighbours, in percent; None where it was not measured, or means nothing."""
        return self._top1("knn")

    @property
    def linear(self) -> float | None:
        """Top-1 of the linear classifier in the fast protocol, in percent; None as in `knn`."""
        return self._top1("linear")

    @property
    def baselines(self) -> Mapping[str, Mapping[str, Any]]:
        """The same numbers of what has learned nothing, by name ("raw pixels", "random backbone")."""
        return {row["name"]: row for row in self.values["floors"]}

    def _top1(self, key: str) -> float | None:
        measured = self.values.get(key)
        return None if measured is None else measured["top1"]


@dataclass
class Measurement:
    """What is measured, and where its result goes: everything that can be refused has been, and nothing is computed.

    Attributes:
        name: of the subject, as it was given. labelled: the images; without labels where `tasks` needs none.
        identity: `Identity.as_dict()` of the result. notes: what should be known of it.
        file: of the result. note_on_file: why it is not called after the images alone; None: it is.
        folder: of tables by class, pictures, and what is trained.
    """

    name: str
    subject: Subject
    labelled: Labelled
    tasks: Tasks
    identity: dict[str, Any]
    notes: list[str]
    file: Path
    note_on_file: str | None
    outputs: Outputs = field(default_factory=Outputs)

    @property
    def folder(self) -> Path:
        return self.file.with_suffix("")

    def rows(
        self,
        runtime: Runtime,
        *,
        baselines: Sequence[str] = (),
        emit: Callable[[str], Sink] = lambda task: lambda event: None,
        on_unreadable: OnMeasuring,
    ) -> Iterator[dict[str, Any]]:
        """Measure the subject, then each of `baselines`: the name and the numbers of each. See `probing.probe`."""
        if self.tasks.trained:
            reserve(self.file, self.identity)
        for name, values in probe(
            self.subject,
            self.labelled,
            runtime,
            tasks=self.tasks,
            baselines=tuple(baselines),
            folder=self.folder,
            emit=emit,
            on_unreadable=on_unreadable,
        ):
            self.outputs.problems += values.pop("not_written", ())
            yield {"name": name, **values}

    def measure(
        self,
        runtime: Runtime,
        *,
        baselines: Sequence[str] = (),
        emit: Callable[[str], Sink] = lambda task: lambda event: None,
        on_unreadable: OnMeasuring,
    ) -> Probed:
        """All of it: measured, kept, returned. See `rows`."""
        rows = list(self.rows(runtime, baselines=baselines, emit=emit, on_unreadable=on_unreadable))
        result = self.keep(rows)
        of_images = [note for images in self.labelled.splits.values() for note in images.scan_report.notes]
        notes = dict.fromkeys([*of_images, *self.notes, *([self.note_on_file] if self.note_on_file else [])])
        file = None if result["file"] is None else self.file
        return Probed(result, file, self.folder, tuple(notes), tuple(self.outputs.problems))

    def keep(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The result of all rows, once it is in its file; `outputs` says where that could not be."""
        result: dict[str, Any] = {
            "subject": self.name,
            "kind": self.subject.kind,
            **self.subject.metadata,
            "data": self.labelled.as_dict(),
            "identity": self.identity,
            "notes": self.notes,
            **rows[0],
            "floors": list(rows[1:]),
        }
        with self.outputs.writing(self.file):
            write_result(self.file, result)
        return {**result, "file": str(self.file) if str(self.file) in self.outputs.files else None}


def begin_measurement(
    name: str, subject: Subject, data: str | InMemory | None, tasks: Tasks, out: Path | None = None
) -> Measurement:
    """Open the images, and find out where the result goes.

    Args:
        data: the images; None: the subject's own. out: the folder of the result; None: the subject's.

    Raises:
        UserError: no such images, or not fit to be measured on; a file that could not be written in the end; tasks
            that these images do not have; LiDAR alone of what is no run.
    """
    if not tasks.need_labels:
        check_lidar(subject)
    data = data if isinstance(data, InMemory) else images_of(subject, data)
    open_data = open_labelled if tasks.need_labels else open_with_or_without_labels
    labelled = open_data(data, choices_of(subject.preprocessing))
    notes = [*labelled.notes, *changed_since_training(subject.folder, labelled.opened or labelled.train)]
    identity = identify(subject, labelled.fingerprints, tasks.departures()).as_dict()
    file, note_on_file = result_file(out or subject.folder, f"probe-{stem_of(data)}", identity)
    check_file(file)
    notes += tasks.check(labelled)
    return Measurement(name, subject, labelled, tasks, identity, notes, file, note_on_file)


def check_lidar(subject: Subject) -> None:
    """That LiDAR can be measured of a network.

    Raises:
        UserError: it is no run.
    """
    if subject.run is None:
        raise UserError(
            f"'{subject.name}' is no run, and LiDAR is measured over the distortions that a run has learned with",
            allowed="a run; of other networks --knn, --linear, --layers and what is trained",
            next="--knn --linear without --lidar",
        )


def write_result(file: Path, result: dict[str, Any]) -> None:
    """The result as JSON; what an earlier measurement of the same thing found stays in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    before = rundir.read_json(file) if file.is_file() else {}
    trained = [protocol.key for protocol in PROTOCOLS.values()]
    of_features = ("features", "feature_spread", "effective_rank", "alpha", "rankme", "correlation")
    earlier_keys = ("knn", "linear", "lidar", "feature_lidar", "layers", *of_features, *trained)
    earlier = {key: before[key] for key in earlier_keys if key in before and key not in result}
    baselines = {baseline["name"]: baseline for baseline in before.get("floors", [])}
    for baseline in result["floors"]:
        baselines[baseline["name"]] = {**baselines.get(baseline["name"], {}), **baseline}
    rundir.write_json(file, whole({**result, **earlier, "floors": list(baselines.values())}))
