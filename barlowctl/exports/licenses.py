"""Licenses as the Hugging Face Hub calls them (huggingface/hub-docs, docs/hub/repositories-licenses.md, 2026-08-22)."""

from __future__ import annotations

from pathlib import Path

from barlowctl.errors import UserError, did_you_mean

LICENSES = (
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1",
    "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "h-research",
    "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0", "odc-by", "odbl", "openmdw-1.0",
    "openmdw-1.1", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl", "lgpl-lr",
    "deepfloyd-if-license", "fair-noncommercial-research-license", "llama2", "llama3", "llama3.1", "llama3.2",
    "llama3.3", "llama4", "grok2-community", "gemma", "unknown", "other",
)  # fmt: skip
OTHER = "other"
"""A license of one's own: its text goes into the repository."""
_WELL_KNOWN = "mit, apache-2.0, cc-by-4.0, cc-by-nc-4.0, cc0-1.0"


def check_license(name: str | None, text: Path | None) -> str:
    """The license's identifier; text: the file with its text, None where none was named.

    Raises:
        UserError: none is named, the Hub has no such identifier, or the text of a license of one's own is not there.
    """
    if name is None:
        raise UserError(
            "a repository says under which license its weights may be used, and none is named",
            allowed=f"--license {_WELL_KNOWN}, ..., other",
            next="choose one with --license",
        )
    if name not in LICENSES:
        near = did_you_mean(name, LICENSES) or did_you_mean(name.lower().replace(" ", "-"), LICENSES)
        raise UserError(
            f"--license is '{name}', which the Hugging Face Hub does not know{near}",
            allowed=", ".join(LICENSES),
            next="choose one of them with --license",
        )
    if text is not None and not text.is_file():
        raise UserError(f"there is no file '{text}'", next="name another file with --license-file")
    if name == OTHER and text is None:
        raise UserError(
            "--license other is a license of your own, and its text is not there",
            next="name the file that has it with --license-file",
        )
    return name
