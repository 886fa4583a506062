"""The packed file: FFCV's `.beton` format, its reader and writer, and how a picture is stored in it."""

from barlowctl.data.beton.reader import Beton

__all__ = ["Beton"]
