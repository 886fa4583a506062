"""`barlowctl probe`: kNN, linear evaluation and fine-tuning of a network, as in the paper's tables 1 and 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from barlowctl import launcher
from barlowctl.cli import completion, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.errors import UserError
from barlowctl.output_paths import Outputs, check_file

if TYPE_CHECKING:
    from barlowctl.measure.subjects import Subject
    from barlowctl.measure.tasks import Tasks
    from barlowctl.train.events import Event, Sink

EPILOG = examples(
    "barlowctl probe",
    "barlowctl probe runs/NAME --data cifar10 --pixels --random-init",
    "barlowctl probe runs/NAME --protocol paper --seeds 5",
    "barlowctl probe runs/NAME --semi 1 --semi 10",
    "barlowctl probe resnet50.a1_in1k --data imagenette",
    "barlowctl probe resnet50.pth --data imagenet --protocol paper",
)
PROTOCOL_NAMES = ("fast", "paper", "both")
MEASURES = "Measures"  # a panel of the help
WIDEST = 4  # measures that fit beside one another
TRAINED = {"linear_paper": "linear (paper)", "semi_1": "1 % labels", "semi_10": "10 % labels", "finetune": "fine-tuned"}


def probe(
    subject: Annotated[
        str | None,
        options.subject(
            "A run's name or directory, an exported file or folder, the authors' .pth, or a timm model (resnet50: "
            "random weights; resnet50.a1_in1k: published ones). Default: the newest finished run.",
        ),
    ] = None,
    data: options.Data = None,
    on_unreadable: options.OnUnreadable = None,
    knn: Annotated[
        bool, typer.Option("--knn", help="k nearest neighbours, k 20 and 200.", rich_help_panel=MEASURES)
    ] = False,
    linear: Annotated[
        bool, typer.Option("--linear", help="A linear classifier on frozen features.", rich_help_panel=MEASURES)
    ] = False,
    protocol: Annotated[
        Literal["fast", "paper", "both"] | None,
        options.protocol(
            "Of --linear. fast: features extracted once, several rates and decays at once; paper: SGD with random "
            "crops, 100 epochs, on the training engine.",
            MEASURES,
        ),
    ] = None,
    semi: Annotated[
        list[int] | None,
        typer.Option(
            "--semi",
            metavar="1|10",
            help="Fine-tune on this percentage of the labels, the paper's schedule. Repeatable.",
            autocompletion=completion.percentages,
            rich_help_panel=MEASURES,
        ),
    ] = None,
    semi_list: Annotated[
        Path | None,
        typer.Option(
            "--semi-list",
            help="SimCLR's list of labelled files. Default: a balanced draw by the seed.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Fine-tune the network on all labels.", rich_help_panel=MEASURES)
    ] = False,
    pixels: Annotated[bool, typer.Option("--pixels", help="Measure raw pixels too.", rich_help_panel=MEASURES)] = False,
    random_init: Annotated[
        bool, typer.Option("--random-init", help="Measure the untrained backbone too.", rich_help_panel=MEASURES)
    ] = False,
    seeds: Annotated[int, options.seeds("Repeat with seeds 0, 1, ...: mean and spread.", MEASURES)] = 1,
    overrides: Annotated[
        list[str] | None,
        options.overrides(
            "Override the protocol of what is trained (epochs=10, lr_head=0.1) or eval.resize, eval.crop.", MEASURES
        ),
    ] = None,
    out: Annotated[Path | None, options.out("Folder of the results. Default: the run, else runs/probes/NAME.")] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: options.Loader = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a frozen or fine-tuned network on labelled images; without --knn, --linear ...: kNN and linear.

    Nothing is chosen on test images: the settings of the fast linear classifier are chosen on a tenth of the
    training set, and what is trained is measured after its last epoch. Accuracy of every class and the confusion
    go into files. What is trained goes on where it was stopped when the same command is run again.
    """
    from barlowctl.assemble.data import choices_of
    from barlowctl.assemble.labelled import open_labelled
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.run_images import changed_since_training, require
    from barlowctl.data.images.unreadable import Problem, listed
    from barlowctl.measure.identity import identify, place, reserve, stem_of
    from barlowctl.measure.probing import probe as probe_subject
    from barlowctl.measure.subjects import open_subject

    launcher.refuse_several("probe")
    console = Console(json=json, quiet=quiet)
    geometry, changes, chosen = options.measuring(overrides, on_unreadable)
    if subject is None:
        subject = str(options.newest_finished(console))
    tasks = _tasks(knn, linear, protocol, semi, semi_list, finetune, seeds, changes)
    opened = open_subject(subject, overrides=geometry)
    policy = chosen or opened.on_unreadable
    for note in opened.notes:
        console.say(f"note: {note}")
    if data is None and opened.run is not None:
        require(opened.run.path, opened.run.recipe)
    data = opened.measured_on(data)
    labelled = open_labelled(data, choices_of(opened.preprocessing))
    for split, images in (("train", labelled.train), ("test", labelled.test)):
        console.say(f"{split}: {images.num_samples:,} images of {images.path}")
        for line in images.scan_report.lines():
            console.say(f"{split}: {line}")
    notes = [*labelled.notes, *changed_since_training(opened.folder, labelled.opened or labelled.train)]
    identity = identify(opened, labelled.fingerprints, tasks.departures()).as_dict()
    file, other = place(out or opened.folder, f"probe-{stem_of(data)}", identity)
    check_file(file)
    tasks.check(labelled)
    folder = reserve(file, identity) if tasks.trained else file.with_suffix("")
    shown = opened.preprocessing
    console.say(f"images are shown at resize {shown.resize}, crop {shown.crop}, {shown.interpolation}")
    baselines = (("pixels",) if pixels else ()) + (("random-init",) if random_init else ())
    measured = []
    with options.advise_skipping(policy), console.progress("probing", 1 + len(baselines)) as progress:
        for name, values in probe_subject(
            opened,
            labelled,
            Runtime(device, threads, workers, loader),
            tasks=tasks,
            baselines=baselines,
            folder=folder,
            emit=tell_training(console),
            on_unreadable=policy,
        ):
            progress.advance()
            measured.append({"name": name, **values})
    result = {
        "subject": subject,
        "kind": opened.kind,
        **opened.metadata,
        "data": labelled.as_dict(),
        "identity": identity,
        "notes": notes,
        **measured[0],
        "floors": measured[1:],
    }
    outputs = Outputs(problems=[problem for one in measured for problem in one.pop("not_written", ())])
    result.pop("not_written", None)
    with outputs.writing(file):
        _write(file, result)
    _show(console, opened, result, measured, labelled.test.num_samples)
    for note in notes:
        console.say(f"note: {note}")
    for line in listed([Problem(**one) for one in result["unreadable"]]):
        console.say(line)
    if other:
        console.say(f"note: {other}")
    if str(file) in outputs.files:
        console.say(f"written to {file}; by class and confusion: {folder}")
    console.conclude({**result, "file": str(file) if str(file) in outputs.files else None}, outputs)


def _tasks(
    knn: bool,
    linear: bool,
    protocol: str | None,
    semi: list[int] | None,
    semi_list: Path | None,
    finetune: bool,
    seeds: int,
    overrides: list[str],
) -> Tasks:
    from barlowctl.errors import did_you_mean, instead
    from barlowctl.measure.tasks import Tasks

    if protocol is not None and protocol not in PROTOCOL_NAMES:
        near = did_you_mean(protocol, PROTOCOL_NAMES)
        raise UserError(
            f"--protocol is '{protocol}'{near}",
            allowed=", ".join(PROTOCOL_NAMES),
            next=instead("--protocol", protocol, PROTOCOL_NAMES),
        )
    for percent in semi or []:
        if percent not in (1, 10):
            raise UserError(
                f"--semi is {percent}",
                allowed="1 or 10 (percent of the labels), as in the paper",
                next="--semi 1 --semi 10",
            )
    if semi_list is not None and len(semi or []) != 1:
        raise UserError("--semi-list is the list of one subset", next="--semi 1")
    named = knn or linear or protocol is not None or bool(semi) or finetune
    wanted = protocol or "fast"
    trained = ["linear"] if wanted in ("paper", "both") else []
    trained += [f"semi-{percent}" for percent in dict.fromkeys(semi or [])]
    tasks = Tasks(
        knn=knn or not named,
        linear=(linear and wanted != "paper") or protocol in ("fast", "both") or not named,
        trained=(*trained, *(["finetune"] if finetune else [])),
        seeds=seeds,
        subset=semi_list,
        overrides=tuple(overrides),
    )
    tasks.protocols()  # refused before a network is opened
    return tasks


def tell_training(console: Console) -> Callable[[str], Sink]:
    """Task -> a sink that says a line per epoch."""

    def of(task: str) -> Sink:
        from barlowctl.train.events import EpochDone, Notice, StepDone

        last: dict[str, float] = {}

        def tell(event: Event) -> None:
            match event:
                case StepDone(logged=True):
                    last.update(event.values)
                case EpochDone():
                    accuracy = f"  batch accuracy {last['accuracy']:.1%}" if "accuracy" in last else ""
                    loss, rate = event.values["loss"], event.values["images_per_second"]
                    console.say(f"{task}: epoch {event.epoch + 1}  loss {loss:.4f}{accuracy}  {rate:,.0f} images/s")
                case Notice():
                    console.say(f"note: {event.text}")

        return tell

    return of


def _write(file: Path, result: dict[str, Any]) -> None:
    """The result as JSON; what an earlier command measured of the same thing is kept beside it."""
    from barlowctl.runs import rundir

    file.parent.mkdir(parents=True, exist_ok=True)
    before = rundir.read_json(file) if file.is_file() else {}
    kept = {key: before[key] for key in ("knn", "linear", *TRAINED) if key in before and key not in result}
    baselines = {one["name"]: one for one in before.get("floors", [])}
    for one in result["floors"]:
        baselines[one["name"]] = {**baselines.get(one["name"], {}), **one}
    rundir.write_json(file, {**result, **kept, "floors": list(baselines.values())})


def _show(
    console: Console, opened: Subject, result: dict[str, Any], measured: list[dict[str, Any]], images: int
) -> None:
    from barlowctl.measure.probing import MEASURED

    columns: list[tuple[str, Callable[[dict[str, Any]], Any]]] = []
    classes = result["data"]["classes"]
    top5 = "top-5" if classes > 5 else f"top-5 (of {classes} classes: always 100)"
    if "knn" in result:
        columns += [("kNN k 20", lambda m: _knn_cell(m, "k20")), ("kNN k 200", lambda m: _knn_cell(m, "k200"))]
    for key, label in {"linear": "linear", **TRAINED}.items():
        if key in result:
            columns.append((f"{label} top-1", lambda m, key=key: _cell(m, key, "top1")))  # type: ignore[misc]
            columns.append((top5, lambda m, key=key: _cell(m, key, "top5")))  # type: ignore[misc]
    rows = [(one["name"], *(value(one) for _, value in columns)) for one in measured]
    title = f"{opened.name}: percent of {images:,} test images"
    console.table(title, ("features of", *(name for name, _ in columns)), rows)
    for key in TRAINED:
        if key in result:
            console.say(f"{TRAINED[key]}: {result[key]['protocol']}")
    for note in dict.fromkeys(note for one in measured for note in one.get("knn", {}).get("notes", ())):
        console.say(f"note: kNN: {note}")
    for one in measured:
        for key, name in MEASURED.items():
            if reason := one.get(key, {}).get("reason"):
                console.say(f"note: {one['name']}: no {name}: {reason}")
    if result["feature_spread"] is not None:
        spread = f"feature spread {result['feature_spread']:.3f}, effective rank {result['effective_rank']:.1f}"
        console.say(f"{spread} of {result['features']}, alpha {result['alpha']:.2f}")


def _knn_cell(measured: dict[str, Any], name: str) -> Any:
    """Top-1 with k neighbours, and how many voted where the bank has fewer: the number is then of another k."""
    value, voted = _cell(measured, "knn", name), measured.get("knn", {}).get("neighbours", {}).get(name)
    fewer = value is not None and voted is not None and voted < int(name.removeprefix("k"))
    return f"{value:.2f} (k {voted})" if fewer else value


def _cell(measured: dict[str, Any], key: str, name: str) -> Any:
    values = measured.get(key)
    if values is None:
        return None
    deviation = values.get(f"{name}_sd")
    return values.get(name) if deviation is None else f"{values[name]:.2f} ± {deviation:.2f}"
