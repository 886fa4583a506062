"""The option `--push` of export: a run as a repository of the Hugging Face Hub, shown, and pushed once confirmed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from barlowctl.amounts import counted
from barlowctl.cli.console import Console
from barlowctl.errors import UserError
from barlowctl.exports.formats.options import FormatOptions

if TYPE_CHECKING:
    from barlowctl.assemble.finished import FinishedRun
    from barlowctl.measure.publication import Publication, Terms


def push_run(
    console: Console,
    run: FinishedRun,
    terms: Terms,
    *,
    out: Path | None,
    dry_run: bool,
    yes: bool,
    all_formats: bool,
    with_projector: bool,
    options: FormatOptions,
) -> None:
    """Write the repository, show it, ask, push.

    Args:
        out: a new folder that it is written into and stays in; None: it is gone afterwards.
    """
    from barlowctl.measure import publication

    if not (dry_run or yes or console.can_ask):
        raise UserError("a push asks before it sends anything, and here is nobody to ask", next="--yes")
    with tempfile.TemporaryDirectory(prefix="barlowctl-push-") as temporary:
        folder = Path(temporary) / "repository" if out is None else out
        prepared = publication.prepare(
            run, terms, folder, all_formats=all_formats, with_projector=with_projector, **options
        )
        _show(console, prepared, terms)
        if dry_run:
            console.say(f"README.md:\n\n{prepared.card}")
            console.say("nothing was pushed: without --dry-run it is")
        elif yes or console.confirm(_question(prepared, terms)):
            prepared = publication.push(prepared, terms, progress=console.live)
            assert prepared.commit is not None
            seen_by = "only you and those you let in" if prepared.commit.private else "anyone"
            console.say(f"pushed to {terms.repository}, which {seen_by} can see: {prepared.commit.url}", result=True)
        else:
            console.say("nothing was pushed")
        console.result(_as_dict(prepared, terms, out))


def _show(console: Console, prepared: Publication, terms: Terms) -> None:
    for note in prepared.notes:
        console.say(f"note: {note}")
    for format, why in prepared.left_out.items():
        console.say(f"  {format}: not written: {why}")
    console.table(
        f"{terms.repository}: {'public' if terms.public else 'private'}, license {terms.license}",
        ("file", "bytes"),
        [(file, f"{size:,}") for file, size in prepared.files.items()],
    )


def _question(prepared: Publication, terms: Terms) -> str:
    size = sum(prepared.files.values()) / 1e6
    kind = "public" if terms.public else "private"
    return f"push {counted(len(prepared.files), 'file')}, {size:.1f} MB, to the {kind} repository {terms.repository}?"


def _as_dict(prepared: Publication, terms: Terms, out: Path | None) -> dict[str, object]:
    commit = prepared.commit
    return {
        "repository": terms.repository,
        "pushed": commit is not None,
        "url": commit and commit.url,
        "revision": commit and commit.revision,
        "private": not terms.public if commit is None else commit.private,
        "license": terms.license,
        "folder": None if out is None else str(out),
        "files": dict(prepared.files),
        "left_out": dict(prepared.left_out),
        "notes": list(prepared.notes),
        "card": prepared.card,
    }
