"""The images of a run: kept with it, found again from anywhere, and compared with what lies there now.

run.json's "data": dataset (a name of the data home, or a path in full), path (what was opened), images, of which
labelled and held_out (left out by pre-training), fingerprint, content_hash of a packed file, and choices (range,
background, bands) where files became pixels by others than the defaults. images.txt.gz: names and sizes of images that
are not packed, to say what changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from barlowctl import shell
from barlowctl.amounts import counted
from barlowctl.assemble.data import ImageSet, choices_as_read
from barlowctl.assemble.model import preprocessing_of
from barlowctl.data import home, sources
from barlowctl.data.beton.reader import Beton
from barlowctl.data.images.conversion import Choices
from barlowctl.data.sources import image_list
from barlowctl.errors import UserError
from barlowctl.model import Preprocessing
from barlowctl.recipe.schema import Recipe
from barlowctl.runs import rundir

LIST = "images.txt.gz"
NOTHING_NOTED = (
    "this run was begun by a version that noted no names and sizes of its images: only their number could be compared"
)


def record(source: ImageSet, dataset: str, held_out: int) -> dict[str, Any]:
    """What run.json keeps of the images."""
    return {
        "dataset": home.anywhere(dataset),
        "path": str(source.path.absolute()),
        "images": source.num_samples,
        "labelled": int((source.labels >= 0).sum()),
        "held_out": held_out,
        "content_hash": source.fingerprint.digest if isinstance(source, Beton) else None,
        "fingerprint": source.fingerprint.as_dict(),
        **({"choices": asdict(choices)} if (choices := choices_as_read(source)) != Choices() else {}),
    }


def preprocessing_of_run(run: Path, recipe: Recipe) -> Preprocessing:
    """How a run's images became its input: other files are measured, and exports described, as those were read.

    A packed file has its range and bands from `data pack`, and the recipe says nothing of them.
    """
    choices = _recorded(run).get("choices")
    if not choices:
        return preprocessing_of(recipe)
    made = Choices(choices["range"], choices["background"], tuple(choices["bands"]))
    return replace(preprocessing_of(recipe), range=made.range, background=made.background, bands=made.bands)


def listing(source: ImageSet) -> dict[str, bytes]:
    """The file that says what changed, for the run directory; none for packed images."""
    return {} if isinstance(source, Beton) else {LIST: image_list.pack(source.listed())}


def dataset_of(run: Path, recipe: Recipe) -> str:
    """The images of a run, as `--data` takes them: those it was started with.

    A name is looked up in the data home; where it is not there, the folder it was found in then is taken.
    """
    recorded = _recorded(run)
    dataset, path = recorded.get("dataset"), recorded.get("path")
    if dataset is None:  # of an earlier version: the path alone
        return _of_earlier_version(path, recipe)
    if path is not None and not _is_there(dataset):
        folder = Path(path).parent
        if Path(path).suffix == ".beton" and Path(path).is_file() and home.anywhere(dataset) == dataset:
            return str(folder)
    return str(dataset)


def dataset_to_measure(run: Path, recipe: Recipe) -> str:
    """As `dataset_of`; of a run on photos/train or photos/train.beton the folder that has its other splits too."""
    dataset = dataset_of(run, recipe)
    path = Path(dataset)
    return str(_with_other_splits(path)) if path.is_absolute() and path.exists() else dataset


def _with_other_splits(path: Path) -> Path:
    """The data set that has the train split at `path` and a held-out one; `path` itself where there is none."""
    parent = path.parent
    try:
        home.resolve(parent, "test")
        same = path in (sources.split_folder(parent, "train"), home.resolve(parent, "train"))
    except (UserError, OSError):
        return path
    return parent if same else path


def require(run: Path, recipe: Recipe) -> str:
    """As `dataset_of`, once they are there.

    Raises:
        UserError: they are not.
    """
    dataset = dataset_of(run, recipe)
    try:
        home.resolve(dataset)
    except UserError as error:
        recorded = _recorded(run)
        count = f"the same {counted(recorded['images'], 'image')}" if "images" in recorded else "the same images"
        raise UserError(
            f"the images of '{run}' are not there: {error.message}",
            allowed=f"{count}, wherever they lie now",
            next="name the folder or data set that holds them with --data",
        ) from error
    return dataset


def check(run: Path, source: ImageSet, dataset: str) -> str | None:
    """Refuse to go on with other images than a run began with; returns what the user should know.

    Raises:
        UserError: images were added, removed or replaced; says which.
    """
    recorded = _recorded(run)
    if not recorded:
        return NOTHING_NOTED
    changed = difference(run, source)
    if changed is None:
        has_fingerprint = recorded.get("fingerprint") or (recorded.get("content_hash") and isinstance(source, Beton))
        return None if has_fingerprint else NOTHING_NOTED
    dataset_now = home.anywhere(dataset)
    weights = ("--init", run) if rundir.checkpoints_of(run) else ()
    raise UserError(
        f"'{run}' was trained on other images than those in '{source.path}': {changed}",
        allowed=f"the images it began with ({recorded.get('path')}), wherever they lie now (--data), or a new run on "
        f"these{', which may start from its weights' if weights else ''}",
        next=shell.line("barlowctl", "pretrain", "--recipe", run / "recipe.toml", "--data", dataset_now, *weights),
    )


def difference(run: Path, source: ImageSet) -> str | None:
    """What became of a run's images, for people; None where they are the same, as far as was noted."""
    recorded = _recorded(run)
    then, now = recorded.get("images"), source.num_samples
    before: Mapping[str, Any] = recorded.get("fingerprint") or {}
    noted = before.get("digest") or (recorded.get("content_hash") if isinstance(source, Beton) else None)
    if noted is None:
        return None if then in (None, now) else f"{counted(then, 'image')} then, {now:,} now"
    fingerprint = source.fingerprint
    if fingerprint.digest == noted:
        return None
    counts = f"{now:,} now" if then is None else f"{counted(then, 'image')} then, {now:,} now"
    was_packed = before.get("kind", "packed file") == "packed file"
    if was_packed != fingerprint.packed:
        now_is = "a packed file" if fingerprint.packed else "not packed"
        return f"{counts}; then {'a packed file' if was_packed else 'not packed'}, now {now_is}"
    if fingerprint.packed or isinstance(source, Beton):
        return f"{counts}; content hash {noted[:12]} then, {fingerprint.digest[:12]} now"
    listed = image_list.read(run / LIST)
    changes = image_list.changes(listed, source.listed(listed.by_folder)) if listed else []
    return "; ".join([counts, *(changes or ["their names, sizes or order differ"])])


def note_queries(run: Path, queries: ImageSet | None) -> str | None:
    """Note what the online kNN asks about; says so where a resumed run asks about other images than before."""
    if queries is None or not (run / "run.json").is_file():
        return None
    about = rundir.read_json(run / "run.json")
    before, now = about.get("queries"), queries.fingerprint.as_dict()
    if before != now:
        rundir.write_json(run / "run.json", {**about, "queries": now})
    if before in (None, now):
        return None
    return (
        f"the online kNN asks about other images than before ({before['images']:,} then, {now['images']:,} now): "
        "its numbers from here on are not to be compared with those before"
    )


def changed_since_training(run: Path, source: ImageSet) -> list[str]:
    """What to say beside a number of a run's own training images, where they are not any more what they were."""
    if _recorded(run).get("path") != str(source.path.absolute()):
        return []
    changed = difference(run, source)
    return [f"these are not the images that the run was trained on: {changed}"] if changed else []


def remember(run: Path, source: ImageSet, dataset: str, held_out: int) -> None:
    """Note where the images of a resumed run lie now, and what they are where that was not noted."""
    about = rundir.read_json(run / "run.json")
    now = record(source, dataset, held_out)
    if about.get("data") == now:
        return
    for name, content in listing(source).items():
        if not (run / name).exists():
            rundir.write_bytes(run / name, content)
    rundir.write_json(run / "run.json", {**about, "data": now})


def _recorded(run: Path) -> dict[str, Any]:
    file = run / "run.json"
    recorded = rundir.read_json(file).get("data", {}) if file.is_file() else {}
    return recorded if isinstance(recorded, dict) else {}


def _is_there(dataset: str) -> bool:
    try:
        home.resolve(dataset)
    except UserError:
        return False
    return True


def _of_earlier_version(path: str | None, recipe: Recipe) -> str:
    """The recipe's images, unless the run is known to have had others that are still there."""
    try:
        own = home.resolve(recipe.data.dataset)
    except UserError:
        own = None
    if path is None or not Path(path).exists() or (own is not None and _same(own, Path(path))):
        return recipe.data.dataset
    return str(_with_other_splits(Path(path).absolute()))


def _same(resolved: Path, opened: Path) -> bool:
    """Whether a run opened what `resolve` gives: for a folder with splits it is the folder of the split."""
    return opened.resolve() in (resolved.resolve(), (resolved / "train").resolve())
