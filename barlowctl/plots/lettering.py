"""Text in figures of matplotlib: in fonts of the machine where its own lack a letter, and never read as a formula."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from barlowctl.plots import machine_fonts
from barlowctl.plots.text import composed, escaped


@dataclass(frozen=True)
class Lettering:
    """How texts are written. families: of fonts, the first one that has a letter draws it (`font.family`)."""

    families: list[str]
    characters: frozenset[str]

    def written(self, text: str) -> str:
        """The text as matplotlib draws it letter by letter: a dollar begins no formula, what no font has is escaped."""
        letters = (character if self._has(character) else escaped(character) for character in composed(text))
        return "".join(letters).replace("$", r"\$")

    def _has(self, character: str) -> bool:
        return character.isascii() or character in self.characters


def lettering(texts: Iterable[str]) -> Lettering:
    """What these texts are written with; looks for fonts only where matplotlib's own lacks a letter."""
    from matplotlib import font_manager

    own = Path(font_manager.findfont("DejaVu Sans"))
    families, available = ["DejaVu Sans"], _characters(own)
    lacking = {character for text in texts for character in composed(text)} - available
    lacking = {character for character in lacking if not character.isascii()}
    for font in [*machine_fonts.named(), *machine_fonts.with_letters(lacking)] if lacking else ():
        file = Path(str(font.path))
        try:
            more = _characters(file) & (lacking - available)
            if more:
                font_manager.fontManager.addfont(str(file))
                families.append(font_manager.get_font(str(file)).family_name)
        except (OSError, RuntimeError):  # a kind of file that matplotlib does not read
            continue
        available |= more
    return Lettering(families, frozenset(available))


def _characters(file: Path) -> set[str]:
    from matplotlib import font_manager

    return {chr(code) for code in font_manager.get_font(str(file)).get_charmap()}
