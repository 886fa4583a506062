"""What `export` refuses before it opens anything: options that contradict one another, or what is named."""

from __future__ import annotations

from pathlib import Path

from barlowctl.errors import UserError


def check_sources(
    run: str | None, best: bool, format: str | None, every: bool, from_official: Path | None, push: str | None
) -> None:
    """Refuse options that contradict one another."""
    if run is not None and from_official is not None:
        raise UserError("a run and --from-official exclude each other", next="without --from-official")
    if best and from_official is not None:
        raise UserError("--best is of a run, and --from-official of a file", next="without --best")
    if push is not None and from_official is not None:
        raise UserError("--push writes a card of a run, and --from-official names a file", next="without --push")
    if every and format is not None:
        raise UserError(f"--all writes every format, and --format {format} one of them", next="without --format")
    if push is not None and format not in (None, "hub"):
        raise UserError(f"--push pushes a hub folder, and no {format}", next="without --format")


def check_run(run: str | None, official: Path | None, of_file: list[str], best: bool, push: str | None) -> bool:
    """Whether a file or folder of weights is named; refuse a run that is not there, and what is not of the two.

    Args:
        run: None: the newest finished run, unless `official` is named.
        of_file: overrides of how a file of weights is read.
    """
    from barlowctl.recipe.overrides import as_typed, without
    from barlowctl.runs import newest, rundir
    from barlowctl.runs.subjects import SUFFIXES, is_file_of_weights, refuse_other_paths
    from barlowctl.runs.weights import GRAPHS

    is_file = run is not None and is_file_of_weights(run)
    if of_file and not is_file:
        are = "is" if len(of_file) == 1 else "are"
        raise UserError(
            f"{as_typed(of_file)} {are} of a file of weights that does not say it, and none is named",
            allowed="beside a file or folder of weights",
            next=without(of_file),
        )
    if is_file and best:
        raise UserError(f"--best is of a run, and '{run}' is a file", next="without --best")
    if is_file and push is not None:
        raise UserError(f"--push writes a card of a run, and '{run}' is a file", next="without --push --license")
    if run is not None and Path(run).suffix.lower() in (*SUFFIXES, *GRAPHS):
        refuse_other_paths(run)
    if not is_file and official is None:
        newest.newest_finished() if run is None else rundir.find_state(run)
    return is_file


def check_unused(
    license: str | None, license_file: Path | None, public: bool, overwrite: bool, dry_run: bool, yes: bool
) -> None:
    """Refuse options of `--push` without it."""
    given = {
        "--license": license, "--license-file": license_file, "--public": public, "--overwrite": overwrite,
        "--dry-run": dry_run, "--yes": yes,
    }  # fmt: skip
    if flags := [flag for flag, value in given.items() if value]:
        are = "is" if len(flags) == 1 else "are"
        raise UserError(f"{', '.join(flags)} {are} of --push, which is not there", next=f"without {' '.join(flags)}")
