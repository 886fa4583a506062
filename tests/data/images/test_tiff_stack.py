"""TIFF stacks of channels, depths and times: which plane is which band is what the file says, not their order."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile

from barlowctl.data.images import tiff
from barlowctl.data.images.unreadable import Unreadable

SIZES = {"T": 2, "Z": 3, "C": 4}


def stack(axes: str, channels: int = 4, dtype: str = "uint16") -> np.ndarray:
    """Planes of 8 x 9 whose value is 100 times the time, 10 times the depth and the channel, each from 1 on."""
    sizes = {**SIZES, "C": channels}
    planes = sum(
        10 ** "CZT".index(axis) * (np.arange(sizes[axis]) + 1).reshape([-1 if axis == other else 1 for other in axes])
        for axis in axes
    )
    return np.ascontiguousarray(np.broadcast_to(np.asarray(planes)[..., None, None], (*np.shape(planes), 8, 9))).astype(
        dtype
    )


def written(values: np.ndarray, axes: str, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="minisblack", metadata={"axes": f"{axes}YX"}, **options)
    return file.getvalue()


def one_directory(data: bytes) -> bytes:
    """The file as ImageJ writes one beyond 4 GB: planes one after another, a directory for the first alone."""
    changed = bytearray(data)
    first = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", changed, first + 2 + 12 * entries, 0)
    return bytes(changed)


def first_pixel(data: bytes, bands: tuple[int, ...]) -> list[int]:
    picture = tiff.read(data, bands)
    assert picture is not None
    values = picture.values if isinstance(picture.values, np.ndarray) else picture.values.values
    return np.atleast_1d(values[0, 0]).tolist()


@pytest.mark.parametrize("axes", ["TZC", "TCZ", "CZT", "ZC", "CZ", "CT", "C"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_bands_are_the_channels_of_the_first_depth_and_time_in_any_order(axes: str, dtype: str) -> None:
    rest = sum(10 ** "CZT".index(axis) for axis in axes if axis != "C")
    data = written(stack(axes, dtype=dtype), axes, ome=True)

    assert first_pixel(data, (1, 2, 3, 4)) == [rest + channel for channel in (1, 2, 3, 4)]
    assert first_pixel(data, (4, 2)) == [rest + 4, rest + 2]
    assert first_pixel(data, (3,)) == [rest + 3]


@pytest.mark.parametrize("cut", [False, True], ids=["directories", "one directory"])
@pytest.mark.parametrize("axes", ["TZC", "ZC", "C"])
def test_hyperstacks_of_imagej_are_read_by_channel_also_with_one_directory(axes: str, cut: bool) -> None:
    rest = sum(10 ** "CZT".index(axis) for axis in axes if axis != "C")
    data = written(stack(axes), axes, imagej=True, byteorder="<", contiguous=True)
    if cut:
        text = tifffile.imagej_description(stack(axes).shape, axes=f"{axes}YX")
        file = io.BytesIO()
        tifffile.imwrite(file, stack(axes), photometric="minisblack", metadata=None, description=text, byteorder="<")
        data = one_directory(file.getvalue())

    assert first_pixel(data, (1, 2, 3, 4)) == [rest + channel for channel in (1, 2, 3, 4)]


def test_other_depths_and_times_are_noted() -> None:
    deep, flat = (tiff.read(written(stack(axes), axes, ome=True), (1, 2, 3, 4)) for axes in ("ZC", "C"))

    assert deep is not None
    assert deep.notes == ["bands 1-4 of 4 channels", "first of several pictures"]
    assert flat is not None
    assert flat.notes == ["bands 1-4 of 4 channels"]


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}, {}], ids=["OME", "ImageJ", "tifffile"])
def test_channels_are_refused_until_bands_are_chosen(options: dict[str, bool]) -> None:
    with pytest.raises(Unreadable, match=r"a TIFF of 4 channels of uint16, .* or all .*: --bands 1-4"):
        tiff.read(written(stack("ZC"), "ZC", **options), ())
    with pytest.raises(Unreadable, match="a TIFF of 4 channels of uint16; there is no band 5"):
        tiff.read(written(stack("ZC"), "ZC", **options), (5,))


def test_three_channels_are_red_green_and_blue() -> None:
    picture = tiff.read(written(stack("C", channels=3), "C", ome=True), ())

    assert picture is not None
    assert picture.notes == ["3 bands as red, green, blue"]
    assert first_pixel(written(stack("CZ", channels=3), "CZ", ome=True), ()) == [11, 12, 13]


def test_a_stack_without_channels_gives_its_first_plane_and_its_pages_as_bands() -> None:
    data = written(stack("Z"), "Z", ome=True)
    picture = tiff.read(data, ())

    assert picture is not None
    assert picture.notes == ["first of several pictures"]
    assert first_pixel(data, ()) == [10]
    assert first_pixel(data, (3, 1)) == [30, 10]


def test_of_a_file_whose_other_channels_lie_in_other_files_its_own_plane_is_read() -> None:
    xml = tifffile.tiffcomment(io.BytesIO(written(stack("C"), "C", ome=True)))
    assert isinstance(xml, str)
    elsewhere = "".join(
        f'<TiffData FirstC="{channel}" IFD="0" PlaneCount="1"><UUID FileName="{channel}.tif">urn:uuid:{channel}</UUID>'
        "</TiffData>"
        for channel in range(4)
    )
    xml = xml.replace('<TiffData IFD="0" PlaneCount="4"/>', elsewhere).replace("<OME ", '<OME UUID="urn:uuid:1" ')
    assert elsewhere in xml
    file = io.BytesIO()
    tifffile.imwrite(file, stack("C")[1], photometric="minisblack", metadata=None, description=xml)

    assert first_pixel(file.getvalue(), ()) == [2]


def test_smaller_copies_of_a_pyramid_are_no_bands() -> None:
    file, values = io.BytesIO(), np.kron(stack("C"), np.ones((1, 8, 8), np.uint16))
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(values, subifds=1, tile=(16, 16), photometric="minisblack", metadata={"axes": "CYX"})
        writer.write(values[:, ::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
    picture = tiff.read(file.getvalue(), (1, 2, 3, 4))

    assert picture is not None
    assert picture.values.values.shape == (64, 72, 4)
    assert first_pixel(file.getvalue(), (4, 1)) == [4, 1]


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}, {}])
def test_a_depth_of_one_channel_is_chosen_by_its_number(options: dict[str, Any]) -> None:
    data = written(stack("Z"), "Z", **options)
    assert [first_pixel(data, (depth,)) for depth in (1, 2, 3)] == [[10], [20], [30]]
    with pytest.raises(Unreadable, match="there is no band 4"):
        tiff.read(data, (4,))
