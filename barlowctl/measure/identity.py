"""What a measurement is of: which weights, shown which images, prepared how. Its result is kept under that identity.

A result's file has a name for people, `probe-flowers.json`. Where that file holds a measurement of something else, the
new one goes beside it as `probe-flowers-KEY.json`: nothing is overwritten, and nothing mixed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL.PngImagePlugin import PngInfo

from barlowctl.data import home
from barlowctl.data.sources.fingerprint import Fingerprint
from barlowctl.data.sources.in_memory import InMemory
from barlowctl.errors import UserError
from barlowctl.eval.features import backbone_digest
from barlowctl.files import folder_made
from barlowctl.measure.subjects import Subject
from barlowctl.runs import rundir

RESERVED = "identity.json"
_MARK = "barlowctl-identity"
_PARTS = {
    "weights": "other weights",
    "images": "other images",
    "preprocessing": "images prepared in another way",
    "protocol": "another protocol",
}


@dataclass(frozen=True)
class Identity:
    """weights: digest of the backbone. images: split -> fingerprint. protocol: what else the numbers depend on."""

    weights: str
    images: Mapping[str, str]
    preprocessing: Mapping[str, Any]
    protocol: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Eight hexadecimal digits that stand for all of it."""
        return hashlib.sha256(json.dumps(self._parts(), sort_keys=True).encode()).hexdigest()[:8]

    def as_dict(self) -> dict[str, Any]:
        """As a result says it."""
        return {"key": self.key, **self._parts()}

    def _parts(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "images": dict(self.images),
            "preprocessing": dict(self.preprocessing),
            "protocol": dict(self.protocol),
        }


def identify(
    subject: Subject, images: Mapping[str, Fingerprint], protocol: Mapping[str, Any] | None = None
) -> Identity:
    """Of a subject that is measured on these images."""
    prints = {split: fingerprint.digest for split, fingerprint in images.items()}
    return Identity(backbone_digest(subject.backbone), prints, subject.preprocessing.as_dict(), protocol or {})


def stem_of(data: str | InMemory) -> str:
    """What a data set is called in the name of a result's file: flowers-1.0 of ~/flowers-1.0 and flowers-1.0.beton."""
    if isinstance(data, InMemory):
        return data.title
    return Path(home.anywhere(data)).name.removesuffix(".beton")


def result_file(folder: Path, stem: str, identity: Mapping[str, Any]) -> tuple[Path, str | None]:
    """The file of a result, and why it is not the one called after the stem alone.

    Args:
        identity: `Identity.as_dict()`.

    Raises:
        UserError: the file that is there is damaged.
    """
    file = folder / f"{stem}.json"
    there = next((path for path in (file, folder / stem / RESERVED) if path.is_file()), None)
    if there is None:
        return file, None
    before = rundir.read_json(there).get("identity") or {}
    if before.get("key") == identity["key"]:
        return file, None
    differs = [text for part, text in _PARTS.items() if before and before.get(part) != identity[part]]
    why = f"is of {' and '.join(differs)}" if differs else "was written by a version that did not note all it is of"
    what = f"'{file}'" if there == file else f"'{there.parent}', a measurement that has not ended,"
    return folder / f"{stem}-{identity['key']}.json", f"{what} {why}, and stays as it is"


def reserve(file: Path, identity: Mapping[str, Any]) -> Path:
    """The folder of a result that takes long: it is the identity's before the result is there. Returns it.

    Raises:
        UserError: it cannot be written. Nothing was measured yet, so that there is nothing to go on with there.
    """
    folder = file.with_suffix("")
    try:
        with folder_made(folder):
            rundir.write_json(folder / RESERVED, {"identity": identity})
    except UserError as error:
        raise UserError(error.message, next="name another place with --out") from error
    return folder


def mark_png(key: str) -> PngInfo:
    """What says in a picture which identity it is of; a page has the same words in a comment (`mark_page`)."""
    info = PngInfo()
    info.add_text(_MARK, key)
    return info


def mark_page(page: str, key: str) -> str:
    """An HTML page that says which identity it is of."""
    return page.replace("<head>", f"<head><!-- {_MARK} {key} -->", 1)


def bears(file: Path, key: str) -> bool:
    """Whether a picture or page is of this identity, so that a new one may take its place."""
    try:
        with open(file, "rb") as stream:
            mark = re.search(rb"%s[\0 ]([0-9a-f]{8})" % _MARK.encode(), stream.read(4096))
    except OSError:
        return False
    return mark is not None and mark[1].decode() == key
