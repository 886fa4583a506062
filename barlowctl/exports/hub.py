"""A folder pushed to the Hugging Face Hub by huggingface_hub, which alone knows tokens, hosts and protocols.

A repository is filled by one commit, after everything has arrived: a push that is cut off publishes nothing, and the
same push again goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import barlowctl
from barlowctl.errors import UserError, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

_MADE_BY_THE_HUB = {".gitattributes"}
_AGAIN = "run the same command again"
_LOG_IN = "hf auth login"


@dataclass(frozen=True)
class Commit:
    """What a push made: the commit and its page, and whether the repository is private."""

    url: str
    revision: str
    private: bool


def check_repository(name: str) -> None:
    """Refuse what cannot be a repository's name, before anything is computed; without a network.

    Raises:
        UserError: it is not USER/NAME, or the Hub allows no such name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    allowed = "USER/NAME or ORGANISATION/NAME: letters, digits, '-', '_' and '.', at most 96 of them"
    problem = None if name.count("/") == 1 else "does not name a user (or an organisation) and a repository"
    try:
        validate_repo_id(name)
    except HFValidationError:
        problem = problem or "is no name that the Hub allows"
    if problem:
        raise UserError(f"'{name}' {problem}", allowed=allowed, next="give another name as USER/NAME")


def upload(
    folder: Path,
    repository: str,
    *,
    public: bool = False,
    overwrite: bool = False,
    replaced: Sequence[str] = (),
    progress: bool = False,
) -> Commit:
    """Push a folder into a repository, which is made where it is not there.

    Args:
        public: anyone may see it; else it is made private.
        overwrite: a repository that holds something gets the folder's files in a new commit.
        replaced: names that are removed from it then, where the folder does not have them.
        progress: let huggingface_hub draw bars on standard error.

    Raises:
        UserError: no token, no right, the name is taken, the repository is public and that was not asked for, no
            network; in words.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="barlowctl", library_version=barlowctl.__version__)
    with _explained(repository), _bars(progress):
        api.whoami()  # without a token nothing is begun
        private = _prepare(api, repository, public, overwrite)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=f"Upload from barlowctl {barlowctl.__version__}",
            delete_patterns=list(replaced) if overwrite else None,
        )
    return Commit(commit.commit_url, commit.oid, private)


def _prepare(api: HfApi, repository: str, public: bool, overwrite: bool) -> bool:
    """Make the repository, or see that the one that is there may be filled; returns whether it is private."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        there = api.model_info(repository)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=not public)
        return not public
    if not public and not there.private:
        raise UserError(
            f"the repository {repository} is there and is public: anyone would see what is pushed", next="--public"
        )
    names = {sibling.rfilename for sibling in there.siblings or ()} - _MADE_BY_THE_HUB
    if names and not overwrite:
        raise UserError(
            f"the repository {repository} is there and holds {', '.join(sorted(names)[:3])}"
            + (f" and {len(names) - 3} more files" if len(names) > 3 else ""),
            next="--overwrite",
        )
    return bool(there.private)


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Errors of huggingface_hub as a person's: what is wrong, what to do."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    # Its own errors and those of its HTTP client, whichever that is; OSError is of sockets and files, RuntimeError of
    # a file that was not taken, ValueError of an answer that is none.
    kinds: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, *HfHubHTTPError.__bases__)
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError("there is no token of the Hugging Face Hub on this machine", next=_LOG_IN) from error
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set: nothing is pushed", next="unset HF_HUB_OFFLINE") from error
    except kinds as error:
        answer = _answer(error)
        if answer is None:
            raise UserError(
                f"the Hugging Face Hub could not be reached, or the connection was lost: {one_line(_cause(error))}",
                next=_AGAIN,
            ) from error
        raise _refused(repository, answer) from error


def _answer(error: BaseException | None) -> HfHubHTTPError | None:
    """The Hub's answer that led to an error; None where there was none."""
    from huggingface_hub.errors import HfHubHTTPError

    while error is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return error


def _cause(error: BaseException) -> BaseException:
    """What happened first: what is wrapped around it says less."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _refused(repository: str, answer: HfHubHTTPError) -> UserError:
    """What the Hub's answer means for a push."""
    status, words = answer.response.status_code, answer.server_message or one_line(answer)
    match status:
        case 401:
            return UserError("the Hugging Face Hub does not accept the token of this machine", next=_LOG_IN)
        case 403:
            return UserError(
                f"the token of this machine may not write to {repository}: {words}",
                allowed="a token with the right to write, and a user or an organisation that it belongs to",
                next=_LOG_IN,
            )
        case 409:
            return UserError(f"the name {repository} is taken: {words}", next="give another name as USER/NAME")
        case 429:
            return UserError(f"the Hugging Face Hub asks to wait: {words}", next=_AGAIN)
        case _ if status >= 500:
            return UserError(f"the Hugging Face Hub has a fault ({status}): {words}", next=_AGAIN)
        case _:
            return UserError(
                f"the Hugging Face Hub refuses the push to {repository} ({status}): {words}",
                next="give another name as USER/NAME",
            )


@contextmanager
def _bars(progress: bool) -> Iterator[None]:
    """Without huggingface_hub's progress bars, unless they are wanted; afterwards as it was."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if progress or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
