"""`barlowctl probe`: kNN and linear evaluation of frozen features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from barlowctl.cli import options
from barlowctl.cli.console import Console

EPILOG = "Examples: barlowctl probe | barlowctl probe runs/NAME --data cifar10 --pixels --random-init"
COLUMNS = ("features of", "kNN k 20", "kNN k 200", "linear top-1", "linear top-5")


def probe(
    run: Annotated[Path | None, typer.Argument(help="A run directory. Default: the newest finished run.")] = None,
    data: options.Data = None,
    pixels: Annotated[bool, typer.Option("--pixels", help="Measure raw pixels too.")] = False,
    random_init: Annotated[bool, typer.Option("--random-init", help="Measure the untrained backbone too.")] = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    loader: Annotated[str, typer.Option("--loader", help="auto, fast (packed file) or plain (torchvision).")] = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a run's frozen backbone on labelled images: kNN and a linear classifier.

    Features are extracted once from undistorted images. kNN: cosine similarity, votes weighted by
    exp(similarity / 0.07). Linear: logistic regression, its settings chosen on a tenth of the training set.
    The result goes into the run directory as probe-DATASET.json.
    """
    from barlowctl.assemble.finished import open_run
    from barlowctl.assemble.machine import Runtime
    from barlowctl.assemble.probing import open_labelled
    from barlowctl.assemble.probing import probe as measure
    from barlowctl.train import rundir

    console = Console(json=json, quiet=quiet)
    if run is None:
        run = rundir.newest_finished()
        console.say(f"no run was named: taking the newest finished one, {run}")
    opened = open_run(run)
    for note in opened.notes:
        console.say(f"note: {note}")
    labelled = open_labelled(opened.recipe, data)
    console.say(f"bank: {labelled.train.num_samples:,} images of {labelled.train.path}")
    console.say(f"test: {labelled.test.num_samples:,} images of {labelled.test.path}")
    floors = (("pixels",) if pixels else ()) + (("random-init",) if random_init else ())
    rows, measured = [], []
    with console.progress("probing", 1 + len(floors)) as progress:
        subjects = measure(opened, labelled, Runtime(device, threads, workers, loader), floors=floors)
        for name, values in subjects:
            progress.advance()
            measured.append({"name": name, **values})
            knn, linear = values["knn"], values["linear"]
            rows.append((name, knn["top1"], knn["k200"], linear["top1"], linear["top5"]))
    file = run / f"probe-{Path(data or opened.recipe.data.dataset).stem}.json"
    result = {
        "run": str(run),
        "step": opened.step,
        "data": labelled.facts(),
        **{key: value for key, value in measured[0].items() if key != "name"},
        "floors": measured[1:],
    }
    rundir.write_json(file, result)
    console.table(f"{opened.recipe.name}: top-1 in percent on {labelled.test.num_samples:,} test images", COLUMNS, rows)
    console.say(f"written to {file}")
    console.result({**result, "file": str(file)})
