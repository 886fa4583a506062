"""What options and their values were called before: scripts that were written then go on working.

Not in the help and not completed by a shell: read as the names of today before anything else sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

OPTIONS: Mapping[tuple[str, ...], Mapping[str, str]] = {
    ("report",): {"--images": "--previews", "--no-images": "--no-previews"},
    ("bench", "loader"): {"--images": "--data", "--count": "--samples"},
    ("bench", "step"): {"--images": "--data", "--count": "--samples", "--projector": "--widths"},
}
"""Command -> option of an earlier version -> option of today."""

VALUES: Mapping[str, Mapping[str, str]] = {"--on-unreadable": {"fail": "stop"}}
"""Option, in every command -> value of an earlier version -> value of today."""


def current(arguments: Sequence[str]) -> list[str]:
    """The words after `barlowctl`, with the names of today. What follows `--` is no option."""
    options = next((renamed for path, renamed in OPTIONS.items() if tuple(arguments[: len(path)]) == path), {})
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    words: list[str] = []
    for word in arguments[:cut]:
        flag, equals, value = word.partition("=")
        flag = options.get(flag, flag)
        if equals and flag.startswith("--"):
            word = f"{flag}={VALUES.get(flag, {}).get(value, value)}"
        elif words and words[-1] in VALUES:
            word = VALUES[words[-1]].get(word, word)
        else:
            word = flag if word.startswith("--") else word
        words.append(word)
    return [*words, *arguments[cut:]]
