"""Pack a source of images into one `.beton` file, in parallel and in order.

A pool of threads reads, checks and encodes (the codecs release the interpreter lock); this thread writes.
No more than a few pictures per thread are under way at a time, whatever the size of the source.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from barlowctl.amounts import counted
from barlowctl.data.beton.encode import RESIZED, STORES, Stored, checked_with
from barlowctl.data.beton.encoded import encoded_in_order, look_on
from barlowctl.data.beton.layout import JPEG
from barlowctl.data.beton.writer import BetonWriter
from barlowctl.data.images.band_counts import BandCounts
from barlowctl.data.images.brightness import describe_looks
from barlowctl.data.images.conversion import Conversion
from barlowctl.data.images.unreadable import Unreadable, UnreadableImage
from barlowctl.data.sources.lacking import Lacking
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.sample import conversion_of
from barlowctl.errors import UserError, instead
from barlowctl.files import folder_made
from barlowctl.output_paths import why_not_written

NAMES_KEPT = 100
"""Names of unreadable and damaged images kept in the file."""

Problem = tuple[str, str]
OnUnreadable = Literal["skip", "fail"]
OnDamaged = Literal["keep", "fail"]


@dataclass
class PackReport:
    """What became of a source.

    samples: images in the file.    labelled: those with a label.    passed_through: JPEGs stored byte for byte.
    encoded, raw: images stored anew as JPEG, or as pixels.    resized: those made smaller.    changed: why not
    byte for byte -> how many.
    unreadable: (name, reason) of images left out.    damaged: names of images whose decoder complained but
    gave pixels; those pixels were stored anew.    channels: 1 when no image has colour,
    else 3; or of bands.    passed_over: kind -> count and examples of what lies there and was not taken for an image.
    notes: choices that were made.    looks: "nearly black", "nearly white", "flat" -> names.
    setting: `KEY=VALUE` that unreadable images lack, of each key what the first lacks, with spaces.
    """

    path: str
    kind: str
    split: str
    samples: int = 0
    labelled: int = 0
    classes: int = 0
    channels: int = 3
    passed_through: int = 0
    encoded: int = 0
    raw: int = 0
    resized: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    unreadable: list[Problem] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    passed_over: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    looks: dict[str, list[str]] = field(default_factory=dict)
    setting: str = ""
    bytes: int = 0
    content_hash: str = ""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def pack(
    source: Source,
    out: str | Path,
    *,
    workers: int = 1,
    store: str = "auto",
    quality: int = 95,
    shorter_side: int | None = None,
    on_unreadable: OnUnreadable = "skip",
    on_damaged: OnDamaged = "keep",
    overwrite: bool = False,
    conversion: Conversion | None = None,
    progress: Callable[[int], None] | None = None,
) -> PackReport:
    """Write `out` (its folder is made); nothing appears under that name unless all went well.

    Args:
        workers: threads that decode; the result does not depend on it.
        store, quality, shorter_side: see `encode.encode`.
        on_unreadable: leave such images out and report them, or stop at the first.
        on_damaged: images whose decoder complained: store the pixels and report them, or stop at the first.
        overwrite: replace an existing file.
        conversion: what becomes of more than 8 bits, transparency and bands; None: the defaults.
        progress: called with 1 for every image dealt with.

    Raises:
        UserError: the file exists or cannot be written, an image is unreadable or damaged with "fail", or all are.
    """
    check_options(workers, store, quality, shorter_side, on_unreadable, on_damaged)
    conversion = conversion or conversion_of(source)
    how = {"store": store, "quality": quality, "shorter_side": shorter_side, "conversion": conversion}
    out, bands = Path(out), _bands(conversion, store)
    report = PackReport(str(out), source.kind, source.split, classes=len(source.class_names))
    scanned = source.scan_report.as_dict()
    report.passed_over, report.notes = scanned["passed_over"], scanned["notes"]
    started = time.perf_counter()
    try:
        with (
            folder_made(out.parent),
            BetonWriter(out, len(source), source.class_names, channels=bands or 3, overwrite=overwrite) as writer,
            closing(encoded_in_order(source, workers, how)) as encoded,
        ):
            stop_at = on_unreadable == "fail", on_damaged == "fail"
            colour = _write_all(source, writer, report, encoded, conversion, stop_at, progress)
            if writer.count == 0:
                raise _none_readable(source, report)
            report.channels, report.samples = bands or (3 if colour else 1), writer.count
            report.notes += conversion.notes()
            report.notes += describe_looks(report.looks, report.samples, bool(conversion.ranges.used))
            notes = _notes(source, report) | {"conversion": conversion.as_dict()}
            report.content_hash = writer.finish(**notes, shorter_side=shorter_side)
    except OSError as error:
        raise UserError(
            f"cannot write {out} after {report.samples:,} of {counted(len(source), 'image')}: "
            f"{why_not_written(error, out.parent)}; nothing was kept",
            next="make room, or choose another place for OUT",
        ) from error
    report.bytes = out.stat().st_size
    report.seconds = round(time.perf_counter() - started, 3)
    return report


def _bands(conversion: Conversion, store: str) -> int:
    """Channels of every image where bands are chosen as such; 0: images are grey or have colours."""
    if (bands := conversion.choices.channels) and store == "jpeg":
        raise UserError(f"store is 'jpeg', and no JPEG has {bands} bands", allowed="auto, raw", next="--store auto")
    return bands


def _none_readable(source: Source, report: PackReport) -> UserError:
    name, reason = report.unreadable[0]
    return UserError(
        f"none of the {counted(len(source), 'image')} in {source.path} can be read; {name}: {reason}",
        next=flag_of(report.setting) or "check the files, or give another folder",
    )


def _write_all(
    source: Source,
    writer: BetonWriter,
    report: PackReport,
    encoded: Iterator[tuple[str, int, Stored | Unreadable]],
    conversion: Conversion,
    stop_at: tuple[bool, bool],
    progress: Callable[[int], None] | None,
) -> bool:
    """Append every readable image; whether any has colour. stop_at: the first unreadable, the first damaged one."""
    colour, changed, bands = False, Counter[str](), BandCounts()
    lacking = Lacking(source, conversion)
    pictures = enumerate(encoded)
    for index, (name, label, stored) in pictures:
        if progress is not None:
            progress(1)
        try:
            if isinstance(stored, Unreadable):
                raise stored
            _append(writer, stored, label, name)
        except Unreadable as error:
            settable = lacking.of(error, index)
            if stop_at[0]:
                others = look_on(pictures, lacking)
                next = flag_of(lacking.settings) if settable else "--on-unreadable skip"
                raise UnreadableImage(source.path, name, f"{error}{others}", next=next) from error
            report.unreadable.append((name, str(error)))
            continue
        if stop_at[1] and stored.damaged:
            raise UserError(
                f"{source.path}: {name} is damaged ({stored.changed})",
                allowed="images that are read without complaint",
                next="--on-unreadable skip",
            )
        colour = colour or not stored.grey
        report.passed_through += not stored.changed
        report.encoded += bool(stored.changed) and stored.mode == JPEG
        report.raw += stored.mode != JPEG
        report.resized += RESIZED in stored.changed
        if stored.changed:
            changed[stored.changed] += 1
        if stored.damaged:
            report.damaged.append(name)
        report.labelled += label >= 0
        bands.add(stored.bands, name)
        if stored.looks:
            report.looks.setdefault(stored.looks, []).append(name)
        report.samples = writer.count
    report.changed, report.setting = dict(sorted(changed.items())), lacking.settings
    report.notes += bands.lines(conversion.choices.bands)
    return colour


def _append(writer: BetonWriter, stored: Stored, label: int, name: str) -> None:
    shape = {"width": stored.width, "height": stored.height}
    try:
        writer.append(stored.payload, mode=stored.mode, **shape, label=label, name=name)
    except ValueError as error:  # larger than the format holds
        raise Unreadable(str(error)) from error


def flag_of(setting: str) -> str:
    """`bands=[4,3,2] range=0:4095` as flags of `data pack`."""
    keys = [part.partition("=") for part in setting.split()]
    return " ".join(f"--{key} {value.strip('[]') if key == 'bands' else value}" for key, _, value in keys)


def _notes(source: Source, report: PackReport) -> dict[str, Any]:
    """What the file's information block says beside class names, hash, version and date."""
    return {
        **source.noted(),
        "channels": report.channels,
        "counts": {
            "samples": report.samples,
            "passed_through": report.passed_through,
            "encoded": report.encoded,
            "raw": report.raw,
            "skipped": len(report.unreadable),
            "damaged": len(report.damaged),
        },
        "changed": report.changed,
        "skipped": [[name[-500:], reason[:200]] for name, reason in report.unreadable[:NAMES_KEPT]],
        "damaged": [name[-500:] for name in report.damaged[:NAMES_KEPT]],
        "passed_over": report.passed_over,
        "notes": report.notes,
        "checked_with": checked_with(),
    }


def check_options(
    workers: int, store: str, quality: int, shorter_side: int | None, on_unreadable: str, on_damaged: str = "keep"
) -> None:
    """Refuse options that `pack` does not take, before a source is looked at.

    Raises:
        UserError: one of them.
    """
    if workers < 1:
        raise UserError(f"workers is {workers}", allowed="1 or more")
    if store not in STORES:
        raise UserError(f"store is '{store}'", allowed=", ".join(STORES), next=instead("--store", store, STORES))
    if shorter_side is not None and shorter_side < 1:
        raise UserError(f"shorter_side is {shorter_side}", allowed="1 or more pixels")
    if not 1 <= quality <= 100:
        raise UserError(f"quality is {quality}", allowed="1 to 100")
    if on_unreadable not in ("skip", "fail"):
        raise UserError(
            f"on_unreadable is '{on_unreadable}'",
            allowed="skip, fail",
            next=instead("--on-unreadable", on_unreadable, ("skip", "fail")),
        )
    if on_damaged not in ("keep", "fail"):
        raise UserError(f"on_damaged is '{on_damaged}'", allowed="keep, fail")
