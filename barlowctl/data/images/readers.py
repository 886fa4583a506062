"""What reads kinds of images beside Pillow alone: codecs that it was built with, and optional packages."""

from __future__ import annotations

import functools
import logging
from typing import Literal

from barlowctl.packages import installation_of

Reader = Literal["", "avif", "dicom", "fits", "heif", "jpg_2000", "none"]
"""Of a kind: "" is Pillow always, "none" nothing."""


def is_there(reader: Reader) -> bool:
    """Whether a codec or package can be used here."""
    if reader == "heif":
        return register_heif()
    if reader == "dicom":
        return has_pydicom()
    if reader == "fits":
        return has_astropy()
    return _pillow_has(reader)


def installation(reader: Reader) -> str | None:
    """The command that brings it; None where there is none."""
    if reader == "heif":
        return installation_of("pillow_heif", "heif")
    if reader == "dicom":
        return installation_of("pydicom", "dicom")
    if reader == "fits":
        return installation_of("astropy", "fits")
    return "pip install --upgrade 'pillow>=11.3'" if reader in ("avif", "jpg_2000") else None


@functools.cache
def _pillow_has(codec: str) -> bool:
    from PIL import features

    known = codec in features.modules or codec in features.codecs  # of an unknown name `check` warns
    return known and bool(features.check(codec))


@functools.cache
def register_heif() -> bool:
    """Have Pillow open HEIC by pillow-heif (github.com/bigcat88/pillow_heif); whether it is there."""
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except Exception:  # it is not there, or does not work
        return False
    register_heif_opener()
    return True


@functools.cache
def has_pydicom() -> bool:
    """Whether pydicom (github.com/pydicom/pydicom) is there; its log goes nowhere."""
    try:
        import pydicom  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401
    except Exception:  # it is not there, or does not work
        return False
    logging.getLogger("pydicom").addHandler(logging.NullHandler())
    return True


@functools.cache
def has_astropy() -> bool:
    """Whether astropy (github.com/astropy/astropy) is there."""
    try:
        import astropy.io.fits  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401
    except Exception:  # it is not there, or does not work
        return False
    return True
