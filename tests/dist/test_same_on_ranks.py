"""Ranks read recipe and images for themselves: where one has others than rank 0, none of them starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import digits, recipe  # noqa: F401 - fixtures
from tests.dist import gang, work

pytestmark = pytest.mark.dist


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A folder of 40 images, a copy of it, one with another picture of the same name, and one with a picture less."""
    drawn = np.random.default_rng(0)
    first, copy, other, fewer = (tmp_path / name for name in ("first", "copy", "other", "fewer"))
    for number in range(40):
        (first / str(number % 2)).mkdir(parents=True, exist_ok=True)
        pixels = drawn.integers(0, 255, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(first / str(number % 2) / f"{number}.png")
    for place in (copy, other, fewer):
        shutil.copytree(first, place)
    shutil.copy(first / "1" / "39.png", other / "0" / "0.png")
    (fewer / "0" / "0.png").unlink()
    return [first, copy, other, fewer]


def refusal(function: object, *arguments: object) -> str:
    """What all of two ranks are refused with."""
    replies = gang.answers(gang.start(function, 2, *arguments))  # type: ignore[arg-type]
    assert [kind for kind, _ in replies] == ["UserError", "UserError"], replies
    first, second = (message.splitlines()[0] for _, message in replies)
    assert first == second
    return str(first)


def test_ranks_with_copies_of_the_images_start(recipe: Path, folders: list[Path]) -> None:  # noqa: F811
    same = [str(recipe)] * 2
    first, copy, *_ = map(str, folders)
    assert gang.together(work.prepared, 2, same, [first, copy]) == [32, 32]  # 8 are held out


def test_ranks_that_see_other_images_do_not_start(recipe: Path, folders: list[Path]) -> None:  # noqa: F811
    same = [str(recipe)] * 2
    first, _, other, fewer = map(str, folders)
    where = f"the images are not the same on all 2 ranks: rank 0 sees 40 images in '{first}', rank 1"
    assert refusal(work.prepared, same, [first, other]) == f"{where} other images of that number in '{other}'"
    assert refusal(work.prepared, same, [first, fewer]) == f"{where} 39 images in '{fewer}'"


def test_ranks_that_read_other_recipes_do_not_start(recipe: Path, folders: list[Path]) -> None:  # noqa: F811
    changed = recipe.with_name("changed.toml")
    changed.write_text(recipe.read_text().replace("log_every_steps = 2", "log_every_steps = 3"))
    data = [str(folders[0])] * 2
    assert refusal(work.prepared, [str(recipe), str(changed)], data) == (
        "the recipe is not the same on all 2 ranks: train.log_every_steps is 2 on rank 0 and 3 on rank 1"
    )


def test_ranks_that_would_train_other_detectors_do_not_start() -> None:
    gang.together(work.checked_trial, 2, ["a", "a"])
    message = "rank 1 has other weights, annotated images or settings than rank 0"
    assert refusal(work.checked_trial, ["a", "b"]) == message
