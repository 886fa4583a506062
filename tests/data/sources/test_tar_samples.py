"""Photos and masks of one name: which are read, what is said, and how another is chosen."""

from __future__ import annotations

import pytest

from barlowctl.data.sources.tar_samples import choose_members, key_and_member
from barlowctl.errors import UserError


@pytest.mark.parametrize(
    ("name", "key", "member"),
    [
        ("a/0001.jpg", "a/0001", "jpg"),
        ("a.b/0001.SEG.png", "a.b/0001", "seg.png"),
        ("shot at 10.22.33.png", "shot at 10.22.33", "png"),
        ("photo.1.jpg", "photo.1", "jpg"),
        ("v1.final.jpg", "v1", "final.jpg"),
    ],
)
def test_a_name_is_a_sample_and_a_member(name, key, member):
    assert key_and_member(name) == (key, member)


def chosen_names(
    names: list[str], member: str | None = None, *, samples: bool = False, shards: list[int] | None = None
):
    chosen = choose_members(names, shards or [0] * len(names), member, samples)
    return [name for name, keep in zip(names, chosen.keep, strict=True) if keep], chosen


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0.jpg", "0.seg.png"], ["0.jpg"]),
        (["0.seg.png", "0.jpg", "1.jpg", "1.seg.png", "2.seg.png"], ["0.jpg", "1.jpg"]),
        (["0.rgb.png", "0.depth.png", "1.rgb.png", "1.depth.png"], ["0.rgb.png", "1.rgb.png"]),
        (["0.left.jpg", "0.right.jpg", "1.left.jpg", "1.right.jpg"], ["0.left.jpg", "1.left.jpg"]),
        (["0.jpg", "0.png", "1.jpg", "1.png"], ["0.jpg", "1.jpg"]),
        (["0.jpg", "0.depth_map.png", "0.normals.png"], ["0.jpg"]),
    ],
)
def test_the_photo_of_each_sample(names, expected):
    read, chosen = chosen_names(names)
    assert read == expected
    assert sum(len(rows) for rows in chosen.skipped.values()) == len(names) - len(expected)
    assert " is read" in chosen.notes[0]
    assert chosen.other not in ("", "jpg")


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "b.png", "c.jpg"],
        ["a.jpg", "a.png", "b.png", "c.png", "d.png"],  # two pictures of one name in a pile
        ["at 10.22.33.png", "at 10.22.34.png"],
        ["IMG.2019.1.jpg", "IMG.2019.2.jpg"],
    ],
)
def test_names_that_only_look_like_samples_are_all_read(names):
    assert chosen_names(names)[0] == names


def test_samples_do_not_cross_files():
    names = ["0.jpg", "0.png", "1.jpg", "1.png"]
    assert chosen_names(names, shards=[0, 1, 0, 1])[0] == names


def test_two_images_are_a_sample_where_labels_lie_beside_them():
    names = ["0.jpg", "0.png"]
    assert chosen_names(names)[0] == names
    assert chosen_names(names, samples=True)[0] == ["0.jpg"]


def test_another_member_is_chosen():
    names = ["0.jpg", "0.seg.png", "1.jpg"]
    read, chosen = chosen_names(names, "seg.png")
    assert read == ["0.seg.png"]
    assert chosen.skipped == {".jpg images, of which none was asked for": [0, 2]}
    assert chosen_names(names, ".JPG")[0] == ["0.jpg", "1.jpg"]
    assert chosen_names(names, "all")[0] == names
    with pytest.raises(UserError, match="--member is 'gif'") as caught:
        chosen_names(names, "gif")
    assert caught.value.allowed == "jpg, seg.png, all"
