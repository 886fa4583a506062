"""The errors a user can cause or meet. A leaf: standard library only.

Everything a person can get wrong is raised as a `UserError`; `cli` turns it into one message and
an exit code. Broken invariants of our own stay `AssertionError`s and keep their traceback.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_SLIP = 0.8
"""Of difflib's ratio: from here on two names differ by a letter or two."""

EXIT_DONE = 0
EXIT_INTERNAL = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 3
EXIT_RANK_LOST = 4
EXIT_DIVERGED = 5
EXIT_BY_SIGNAL = 128  # and the signal's number, as a shell says that it ended a command
EXIT_ABORTED = 130  # by SIGINT


class UserError(Exception):
    """Bad input: what was given, what is allowed, what to run next.

    Args:
        message: one sentence that names the offending value and where it came from.
        allowed: what would have been accepted, when that can be said shortly.
        next: the command (or step) to try next.

    Attributes:
        reported_elsewhere: among several processes of one run: whether another one says it, so that this one is silent.
            None: raised before the processes knew of one another, so all raise it; one per machine says it.
        when_resumed: whether a run that goes on takes the flags that come next, `--set` among them.
        alone: whether what comes next is typed without the launcher that started several processes.
        in_python: whether it speaks of arguments in the place of flags already (`barlowctl.api.wording`).
    """

    exit_code = EXIT_BAD_INPUT

    def __init__(self, message: str, *, allowed: str | None = None, next: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.allowed = allowed
        self.next = next
        self.reported_elsewhere: bool | None = None
        self.when_resumed = False
        self.alone = False
        self.in_python = False

    def explain(self, in_words: Callable[[str], str] = str, advice: Callable[[str], str] = str) -> None:
        """Let a traceback end with what is allowed and what to do next, as its notes.

        Args:
            in_words, advice: what is allowed, and each line of what to do, in the words of whoever reads it.
        """
        allowed = [f"allowed: {in_words(self.allowed)}"] if self.allowed else []
        self.__notes__ = allowed + [f"next: {advice(line)}" for line in (self.next or "").splitlines()]


class RunStopped(UserError):
    """A run that ended early with its state saved, at a signal: resumed, it goes on."""

    exit_code = EXIT_STOPPED


class Aborted(UserError):
    """A command that Ctrl-C ended, with no state to save."""

    exit_code = EXIT_ABORTED


class RunDiverged(RunStopped):
    """A run whose loss, gradient or weights are not finite: resumed, it would come to the same.

    The state before that is saved; where it is not known when that was, the newest checkpoint is what there is.
    """

    exit_code = EXIT_DIVERGED


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """The function, called by programs: a traceback of its `UserError` ends with what is allowed and what to do."""

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except UserError as error:
            if not getattr(error, "__notes__", None):
                error.explain()
            raise

    return call


def nearest(value: str, allowed: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The allowed name that was probably meant; None: none is near.

    A slip of the hand comes first, then a name that the value goes on from (`lr_weights` from `lr`), then what has the
    most letters in common.

    Args:
        cutoff: of difflib's ratio, below which a name is not near.
    """
    names = list(allowed)
    begun = [name for name in names if value.startswith((f"{name}_", f"{name}-"))]
    slips = difflib.get_close_matches(value, names, n=1, cutoff=max(_SLIP, cutoff))
    ordered = [*slips, *sorted(begun, key=len, reverse=True), *difflib.get_close_matches(value, names, 1, cutoff)]
    return next(iter(ordered), None)


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """`, did you mean 'resnet50'?` for the nearest allowed name, or an empty string."""
    near = nearest(value, allowed)
    return f", did you mean '{near}'?" if near else ""


def instead(flag: str, value: str, allowed: Iterable[str]) -> str:
    """`--format timm`: a flag with the allowed value that is nearest to the value, else with the first."""
    candidates = list(allowed)
    return f"{flag} {nearest(value, candidates) or candidates[0]}"


def kind_of(value: object) -> str:
    """The class of a value with its article: `an int`, `an ndarray`, `a list`."""
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' or name == 'ndarray' else 'a'} {name}"


def add_note(error: BaseException, text: str) -> None:
    """Say something more of an error on its way up: `cli` shows it behind the message."""
    if isinstance(error, UserError):
        error.message = f"{error.message}; {text}"
        error.args = (error.message,)
    else:
        error.add_note(text)


def one_line(error: BaseException) -> str:
    """What went wrong, in one line; an error that is not a user's is named by its kind too."""
    if isinstance(error, UserError):
        return error.message
    first = str(error).strip().partition("\n")[0]  # a compiler's message may be thousands of lines
    message = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return "; ".join([message, *getattr(error, "__notes__", ())])


def refused_package(error: Exception) -> UserError | None:
    """The error of a package that cannot be imported, or does not fit another; None: it is another error."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if "torchvision::" in str(error):  # an operator that torchvision did not bring, since it is of another build
        message = "torchvision's operators do not fit the torch that is installed"
    elif package not in ("", "barlowctl"):
        message = f"package {package} cannot be imported: {one_line(error)}"
    else:
        return None
    return UserError(message, next="barlowctl doctor")
