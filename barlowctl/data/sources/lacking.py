"""What must be set before an image can be read: all of it at once, where an error names one setting after another."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from barlowctl.data.images.conversion import Choices, Conversion, parse_bands
from barlowctl.data.images.pixels import convert_values, decode_picture
from barlowctl.data.images.unreadable import Unreadable
from barlowctl.data.sources.picture import Source
from barlowctl.data.sources.sample import conversion_of


class Lacking:
    """Settings without which images of a source cannot be read.

    An image is read again with what its error names, bands say, and what is missing then is named too: a range, of the
    sample that the conversion measures. Once for each setting that errors name, since that reads other images.

    settings: `KEY=VALUE` of a recipe's section `data`, with spaces; of each key what the first image lacks.
    """

    def __init__(self, source: Source, conversion: Conversion) -> None:
        self.settings, self._source, self._conversion = "", source, conversion
        self._all_of = dict[str, str]()

    def of(self, error: Unreadable | OSError, index: int) -> str:
        """What one image lacks, whose error this is; "": no setting helps."""
        first = error.setting if isinstance(error, Unreadable) else ""
        if first and first not in self._all_of:
            self._all_of[first] = " ".join(self._looked_up(first, index))
            known = {setting.partition("=")[0] for setting in self.settings.split()}
            others = (one for one in self._all_of[first].split() if one.partition("=")[0] not in known)
            self.settings = " ".join([*self.settings.split(), *others])
        return self._all_of.get(first, "")

    def _looked_up(self, first: str, index: int) -> list[str]:
        conversion, setting, settings = self._conversion, first, list[str]()
        again = conversion.again or partial(conversion_of, self._source)
        while setting and setting not in settings:
            settings.append(setting)
            conversion, setting = again(_with(conversion.choices, setting)), ""
            try:
                data = self._source[index].data
                decode_picture(data, conversion) if isinstance(data, bytes) else convert_values(data, conversion)
            except OSError:
                break
            except Unreadable as error:
                setting = error.setting
        return settings


def _with(choices: Choices, setting: str) -> Choices:
    key, _, value = setting.partition("=")
    return replace(choices, range=value) if key == "range" else replace(choices, bands=parse_bands(value.strip("[]")))
