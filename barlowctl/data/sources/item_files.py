"""What is known of torchvision's and torch's data sets without reading an item: files, labels, names of classes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barlowctl.data.labels.numbering import label_name
from barlowctl.errors import UserError, kind_of

_ATTRIBUTES = ("classes", "categories")


@dataclass(frozen=True)
class Files:
    """The image files of a data set: `(path, label)` each, and the folder that each is named below."""

    samples: Sequence[tuple[str, int]]
    roots: Sequence[str]

    def name(self, index: int) -> str:
        """What to call an image: its path below the folder, as in a folder that is read."""
        path, root = Path(self.samples[index][0]), self.roots[index]
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def files_of(dataset: Any) -> Files | None:
    """The files of torchvision's ImageFolder without transforms, of a Subset and of a ConcatDataset of them."""
    if _is(dataset, "torch.utils.data", "Subset"):
        inner = files_of(dataset.dataset)
        if inner is None:
            return None
        rows = [int(index) for index in dataset.indices]
        return Files([inner.samples[row] for row in rows], [inner.roots[row] for row in rows])
    if _is(dataset, "torch.utils.data", "ConcatDataset"):
        parts = [files_of(part) for part in dataset.datasets]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return Files([s for part in known for s in part.samples], [r for part in known for r in part.roots])
    folder = sys.modules.get("torchvision.datasets.folder")
    if folder is None or not isinstance(dataset, folder.DatasetFolder):
        return None
    plain = type(dataset).__getitem__ is folder.DatasetFolder.__getitem__ and dataset.loader is folder.default_loader
    if not plain or dataset.transform is not None or dataset.target_transform is not None:
        return None
    return Files(dataset.samples, [str(dataset.root)] * len(dataset.samples))


def class_names_of(dataset: Any) -> list[str]:
    """The names of classes 0, 1, ...; [] where the data set, or a part of it, says none, or changes its labels.

    Raises:
        UserError: data sets of different classes, one behind the other.
    """
    if _is(dataset, "torch.utils.data", "Subset") or _is(dataset, "lightly.data", "LightlyDataset"):
        return class_names_of(dataset.dataset)
    if _is(dataset, "torch.utils.data", "ConcatDataset"):
        names = [class_names_of(part) for part in dataset.datasets]
        if not all(names):
            return []
        if other := next((of_part for of_part in names if of_part != names[0]), None):
            raise UserError(
                f"a ConcatDataset of different classes: {_listed(names[0])}, and {_listed(other)}: one number would "
                "be two classes",
                allowed="data sets with one list of classes",
                next="Subset, or a Dataset of your own whose labels are words",
            )
        return names[0] if names else []
    if getattr(dataset, "target_transform", None) is not None:
        return []
    features = getattr(dataset, "features", None)  # Hugging Face's
    if isinstance(features, Mapping):
        label = label_name([str(key) for key in features])
        return [] if label is None else _words(getattr(features[label], "names", None))
    return next(filter(None, (_words(getattr(dataset, name, None)) for name in _ATTRIBUTES)), [])


def innermost(dataset: Any) -> Any:
    """The data set that a Subset is of."""
    while _is(dataset, "torch.utils.data", "Subset"):
        dataset = dataset.dataset
    return dataset


def refuse_streams(images: Any) -> None:
    """Refuse what has no items by number: a loader of batches, a stream.

    Raises:
        UserError: it is one.
    """
    if _is(images, "torch.utils.data", "DataLoader"):
        raise UserError(
            f"{kind_of(images)} gives batches, and the batches and views of a run are made here, as the recipe says",
            allowed="the data set that it loads",
            next="loader.dataset",
        )
    if _is(images, "torch.utils.data", "IterableDataset"):
        raise UserError(
            f"{kind_of(images)} is a stream: it has no length, and an epoch draws images in an order of its own",
            allowed="a data set with __len__ and __getitem__; tar shards and Parquet files, by their path",
            next="list(dataset), where its images fit in memory; or barlowctl.pack('SHARDS', 'NAME')",
        )


def _is(value: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(value, kind)


def _words(names: Any) -> list[str]:
    """Names of classes, where they are a list of them (of some data sets each is a tuple of synonyms)."""
    if not isinstance(names, list | tuple):
        return []
    return list(_texts(names)) if all(isinstance(name, str | tuple | list) for name in names) else []


def _texts(names: Sequence[Any]) -> Iterator[str]:
    for name in names:
        yield name if isinstance(name, str) else ", ".join(map(str, name))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none named"
