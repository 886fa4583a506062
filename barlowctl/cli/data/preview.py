"""`barlowctl data preview`: originals and the views that training would see, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.cli import limits, options
from barlowctl.cli.console import Console
from barlowctl.cli.help import examples
from barlowctl.errors import UserError
from barlowctl.output_paths import check_file, check_new

EPILOG = examples(
    "barlowctl data preview --recipe resnet50 --data my-photos",
    "barlowctl data preview -r quickstart --samples 12 --out sheet.png",
)
PREVIEW = Path("preview.png")


def preview(
    recipe: Annotated[str | None, options.recipe("Whose views. Default: those of the paper, 224 pixels.")] = None,
    overrides: options.Overrides = None,
    data: options.Data = None,
    split: options.Split = "train",
    samples: Annotated[int, options.samples("Images to show.", options.IMAGES, min=1, max=200)] = 8,
    seed: Annotated[
        int | None, options.seed("Of the draw and the views.", options.IMAGES, max=limits.SEEDS_OF_RUNS)
    ] = None,
    out: Annotated[Path, options.out("The picture, a PNG.")] = PREVIEW,
    loader: options.Loader = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw originals and the views that training would see, from the real loader, as a PNG."""
    from barlowctl.recipe import load
    from barlowctl.recipe.idle import refuse_idle

    console = Console(json=json, quiet=quiet)
    if recipe is None and data is None:
        raise UserError("neither a recipe nor data was named", next="barlowctl data preview --recipe quickstart")
    changes = [*(overrides or ()), *([f"seed={seed}"] if seed is not None else [])]
    value = load.load(recipe or "resnet50", changes)
    refuse_idle([value], overrides or ())

    from barlowctl.assemble.image_sizes import describe_enlargement
    from barlowctl.assemble.previewing import draw_preview
    from barlowctl.assemble.run_images import dataset_of
    from barlowctl.data.images.unreadable import listed

    if data is None and recipe is not None and (Path(recipe).parent / "run.json").is_file():  # a run's own recipe
        data = dataset_of(Path(recipe).parent, value)
    if out.suffix != ".png":
        raise UserError(f"--out is '{out}'", allowed="a name that ends in .png", next=shell.line("--out", f"{out}.png"))
    (check_new if out != PREVIEW else check_file)(out)  # what the flag's default names is drawn anew
    previewed = draw_preview(value, data, split, out, samples=samples, loader=loader)
    drawn, source, choice = previewed.drawn, previewed.source, previewed.loader
    for line in listed(drawn.unreadable):
        console.say(line)
    loader_text = f"{choice.name} loader ({choice.why})"
    console.say(
        f"{counted(drawn.samples, 'image')} of {source.path} with recipe {value.name}, {loader_text}: {drawn.path}"
    )
    if source.stored_channels != 3:
        first = "three as red, green and blue" if source.stored_channels > 3 else "one in grey"
        console.say(f"of {source.stored_channels} bands the picture has the first {first}")
    for line in source.scan_report.lines():
        console.say(line)
    for note in describe_enlargement(source, value).values():
        console.say(f"note: {note}")
    console.result(
        {
            "path": str(drawn.path),
            "samples": drawn.samples,
            "recipe_name": value.name,
            "seed": value.seed,
            "loader": choice.name,
            "unreadable": [problem.as_dict() for problem in drawn.unreadable],
        }
        | source.scan_report.nonempty()
    )
