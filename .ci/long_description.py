"""What a package index shows: README.md, with links that work where README.md's neighbours are not.

BARLOWCTL_SOURCE_URL, the address under which the repository's files are read at this version, becomes the beginning of
every relative link (the workflow that publishes sets it). Without it such a link is text that names the file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"\[([^\]]+)\]\((?!\w+:|#)([^)\s]+)\)")
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


class LongDescription(MetadataHookInterface):
    """Hatchling's hook: sets the field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the text to the project's metadata."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = outside(readme, os.environ.get("BARLOWCTL_SOURCE_URL"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def relative_links(markdown: str) -> list[str]:
    """Targets of the links that lead to files beside the page; what stands in blocks of code is not a link."""
    return [target for part in FENCED.split(markdown)[::2] for _, target in RELATIVE.findall(part)]


def outside(markdown: str, address: str | None) -> str:
    """The page with no relative link left: each begins with `address`, or names its file as text."""

    def link(match: re.Match[str]) -> str:
        label, target = match.groups()
        if address:
            return f"[{label}]({address.rstrip('/')}/{target})"
        return label if label == target else f"{label} ({target})"

    parts = FENCED.split(markdown)
    parts[::2] = [RELATIVE.sub(link, part) for part in parts[::2]]
    return "".join(parts)
