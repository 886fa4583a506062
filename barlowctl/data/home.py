"""The data home: packed data sets by name, `<home>/<name>/<split>.beton`.

The folder is `$BARLOWCTL_DATA`, else `$XDG_CACHE_HOME/barlowctl/data`, else `~/.cache/barlowctl/data`.
"""

from __future__ import annotations

import os
from pathlib import Path

from barlowctl import shell
from barlowctl.caches import cache_home
from barlowctl.data import holding_out, sources
from barlowctl.data.names import packed_as
from barlowctl.data.sources import benchmark_layouts
from barlowctl.data.tree.splits import choices
from barlowctl.datasets import DATASETS, DOWNLOADABLE, TO_BE_PACKED
from barlowctl.errors import UserError, did_you_mean, instead
from barlowctl.files import written_as_path

OR_HELD_OUT = "; data pack --hold-out makes a test split, and --data then names what was packed"
_SAME_SPLIT = {"val": "test", "test": "val"}  # most data sets have one held-out part, under either name


def data_home() -> Path:
    """The folder that holds packed data sets; need not exist yet."""
    chosen = os.environ.get("BARLOWCTL_DATA")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return cache_home() / "barlowctl" / "data"


def dataset_file(name: str, split: str = "train") -> Path:
    """Where a split of a named data set is (or would be) kept.

    Raises:
        UserError: a name that is no plain folder name, or an unknown split.
    """
    if split not in sources.SPLITS:
        raise UserError(
            f"split '{split}' is unknown{did_you_mean(split, sources.SPLITS)}",
            allowed=", ".join(sources.SPLITS),
            next=instead("--split", split, sources.SPLITS),
        )
    if not name or name.startswith(".") or Path(name).name != name or name != name.strip():
        raise UserError(
            f"'{name}' is no name for a data set", allowed="a plain name, e.g. my-photos", next="choose another name"
        )
    return data_home() / name / f"{split}.beton"


def available() -> dict[str, list[str]]:
    """Data sets in the home and their splits, sorted."""
    home = data_home()
    splits: dict[str, list[str]] = {}
    for file in sorted(home.glob("*/*.beton")):
        if not file.name.startswith("."):
            splits.setdefault(file.parent.name, []).append(file.stem)
    return splits


def resolve(dataset: str | Path, split: str = "train") -> Path:
    """Where the images of a split are: a `.beton` file, or a folder for `sources.open_source`.

    `dataset` is a name in the data home, or else a path: a `.beton` (whatever the split), a folder with
    train.beton and val.beton or test.beton, or a folder that `sources.open_source` opens with this split (one
    with train/ and val/ folders is given as it is, so that both count their classes alike; a plain folder of
    images is a train split and has no other). Packed files with other names do not hide the images beside
    them; what is not read is in `beside`. A path is written with a slash, a leading dot or `~`, or ends
    in .beton; a bare word is looked up in the home first. `val` and `test` stand in for one another.

    Raises:
        UserError: nothing there; `next` is the command that brings it.
    """
    text = str(dataset)
    if not text.strip():
        raise UserError(
            "an empty name for a data set", allowed="a name in the data home, or a path", next="barlowctl data info"
        )
    if not _is_path(text):
        file = _packed_split(data_home() / text, split)
        if file is not None:
            return file
        if not Path(text).exists() and not sources.expanded(Path(text)):
            raise _missing_dataset(text, split)
    return _resolve_path(Path(text).expanduser(), split)


def anywhere(dataset: str | Path) -> str:
    """How a data set is named from any folder: a name of the data home as it is, a path in full (links are kept)."""
    text = str(dataset)
    if not text.strip():
        return text
    if not _is_path(text) and (any((data_home() / text).glob("*.beton")) or not Path(text).exists()):
        return text
    return os.path.abspath(os.path.expanduser(text))


def _resolve_path(path: Path, split: str) -> Path:
    shards = sources.expanded(path)
    if not shards and not path.exists():
        raise UserError(
            f"data '{path}' does not exist",
            allowed="a .beton file, or a folder of images",
            next="name one that is there",
        )
    if shards or path.is_file():
        if path.suffix == ".beton":
            return path
        flags = () if split == "train" else ("--split", split)
        raise UserError(
            f"data '{path}' is no .beton file",
            allowed="a .beton file, or a folder of images; lists, archives and tables are packed first",
            next=shell.line("barlowctl", "data", "pack", path, packed_as(path, split), *flags),
        )
    if not path.is_dir():
        raise UserError(
            f"data '{path}' is a pipe, a socket or a device, which is not opened",
            allowed="a .beton file, or a folder of images",
            next="name one that is there",
        )
    try:
        return _resolve_folder(path, split)
    except OSError as error:
        raise UserError(f"data '{path}' cannot be read: {error.strerror or error}", next="check access") from error


def _resolve_folder(path: Path, split: str) -> Path:
    packed = _packed_in(path)
    if any(file.stem in sources.SPLITS for file in packed):
        chosen = _packed_split(path, split)
        if chosen is None and split == "train" and not sources.has_split_folders(path) and sources.has_images(path):
            return path  # photos, and a held-out part that is packed
        return chosen or _refuse_split(path, split, packed)
    if packed and not sources.has_images(path):
        raise UserError(
            f"data '{path}' has packed files, but none is called {split}.beton, and no images",
            allowed=", ".join(file.name for file in packed[:10]),
            next=shell.line("--data", packed[0]),
        )
    if sources.has_split_folders(path):
        if sources.split_folder(path, split) is None:
            there = [name for name in sources.SPLITS if sources.split_folder(path, name)]
            raise _without_split(path, split, there, f"data '{path}' has no {split} split")
    elif not sources.has_images(path):
        sources.open_source(path, split)  # IDX files and the like; else it says what is understood
    elif split != "train" and not sources.split_by_table(path, split):
        message = f"data '{path}' is one folder of images and has no {split} split"
        raise _without_split(path, split, ["train"], message)
    return path


def beside(dataset: str | Path, path: Path) -> list[str]:
    """What lies beside the images that `resolve` found at `path`, is not read, and how to read it: a sentence each."""
    named, notes = Path(str(dataset)).expanduser(), []
    if path.parent != named and path != named and named.exists():
        folder = shell.line(f"./{dataset}")
        notes.append(f"'{dataset}' is taken from the data home ({path}); to read the folder: {folder}")
    if path.suffix == ".beton" and path.parent == named and sources.has_images(named):
        command = shell.line("barlowctl", "data", "pack", named, path, "--overwrite")
        notes.append(f"{path} is read, and not the images beside it; to pack them anew: {command}")
    if path == named and path.is_dir() and (packed := _packed_in(path)):
        names = ", ".join(file.name for file in packed[:3]) + (", ..." if len(packed) > 3 else "")
        command = shell.line("--data", packed[0])
        notes.append(f"the images in {path} are read, and not {names} beside them; to read it instead: {command}")
    return notes


def _packed_in(folder: Path) -> list[Path]:
    """The visible .beton files in a folder, sorted."""
    return sorted(file for file in folder.glob("*.beton") if file.is_file() and not file.name.startswith("."))


def _refuse_split(path: Path, split: str, packed: list[Path]) -> Path:
    if sources.has_split_folders(path) and sources.split_folder(path, split) is not None:
        made = [shell.line("barlowctl", "data", "pack", path, path / f"{split}.beton", "--split", split)]
    else:
        made = _of_packed(path, split)
    raise UserError(
        f"data '{path}' has no {split} split",
        allowed=f"it has {', '.join(file.stem for file in packed)}{OR_HELD_OUT if made else ''}",
        next="\n".join(made) or f"name images with a {split} split with --data",
    )


def held_out(path: Path) -> list[str]:
    """What to type for a test split of labelled images that have none, see `holding_out`; nothing where none is made.

    Args:
        path: of the images of the training split, packed or not.
    """
    try:
        return (holding_out.of_packed if path.suffix == ".beton" else holding_out.of_source)(path, data_home())
    except (UserError, OSError):
        return []


def _of_packed(folder: Path, split: str) -> list[str]:
    """What to type for the split that a folder with packed training images lacks."""
    training = folder / "train.beton"
    return held_out(training) if split in _SAME_SPLIT and training.is_file() else []


def _packed_split(folder: Path, split: str) -> Path | None:
    for name in (split, _SAME_SPLIT.get(split, split)):
        file = folder / f"{name}.beton"
        if file.is_file():
            return file
    return None


def _missing_dataset(name: str, split: str) -> UserError:
    have = available()
    if name in have:
        made = [] if name in DOWNLOADABLE else _of_packed(data_home() / name, split)
        bring = _get(name) if name in DOWNLOADABLE else to_be_packed(name, split)
        return UserError(
            f"data set '{name}' has no {split} split",
            allowed=f"it has {', '.join(have[name])}{OR_HELD_OUT if made else ''}",
            next="\n".join(made) or bring,
        )
    names = [*DOWNLOADABLE, *TO_BE_PACKED, *have]
    near = "" if name in names else did_you_mean(name, names)
    return UserError(
        f"'{name}' is no data set in the data home {data_home()}, and no file or folder here{near}",
        allowed=f"a path, or one of: {', '.join(have)}" if have else "a path",
        next=_bring(name, split),
    )


def _bring(name: str, split: str) -> str:
    """The command that brings a data set."""
    if name in DOWNLOADABLE:
        return _get(name)
    if name in TO_BE_PACKED:
        return to_be_packed(name, split)
    return "barlowctl data info"


def _get(name: str) -> str:
    return shell.line("barlowctl", "data", "get", name)


def to_be_packed(name: str, split: str | None = None) -> str:
    """What to do about a data set, or a split of it, that only a person can bring."""
    flags = () if split is None else ("--split", split)
    return f"bring its files, then: `{shell.line('barlowctl', 'data', 'pack', 'FOLDER', name, *flags)}`"


def _without_split(path: Path, split: str, there: list[str], message: str) -> UserError:
    """A folder lacks a split; of labelled training images alone, some of each class can be held out."""
    if (task := benchmark_layouts.task_of(path)) is None:
        held_out, pack = split in _SAME_SPLIT and there == ["train"], []
        if held_out:
            pack = holding_out.of_source(path, data_home())
        made = (
            "a folder with train/ and val/ folders, a table beside the images with a column 'split', or a test split "
        )
        return UserError(
            message,
            allowed=f"{made}made by data pack --hold-out" if held_out else None,
            next="\n".join([*pack, choices(there), f"name images with a {split} split with --data"]),
        )
    return UserError(
        f"{message}; it is in the layout of {DATASETS[task].title}, which `barlowctl transfer` reads",
        next=shell.line("barlowctl", "transfer", "--task", task, "--data", path),
    )


def _is_path(text: str) -> bool:
    return written_as_path(text, (".beton",))


def target(out: str | Path, split: str = "train") -> Path:
    """Where `data pack SOURCE OUT` writes: OUT itself when it is a path, else that name in the home.

    Raises:
        UserError: a path that does not end in .beton, or no name for a data set.
    """
    text = str(out)
    if not _is_path(text):
        return dataset_file(text, split)
    if not text.endswith(".beton"):
        raise UserError(
            f"OUT is '{text}'",
            allowed="FILE.beton, or a bare name for the data home",
            next=f"name it {shell.line(text.rstrip('/') + '.beton')}",
        )
    return Path(text).expanduser()
