"""Which members of an archive are files to look at, and under which kind the others are skipped."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Callable
from typing import IO

from barlowctl.data.images.formats import content_decides
from barlowctl.data.tree.scan import inside_system_or_hidden, look_into
from barlowctl.data.tree.scan_report import ScanReport

ENCRYPTED = "encrypted members"
REPLACED = "members that a later one of the same name replaces"
_LINKS = "links in an archive"


def kind_of_tar_member(member: tarfile.TarInfo) -> str:
    """Why a member that is no folder is skipped before its ending counts; "" where it is not."""
    if member.issym() or member.islnk():
        return _LINKS
    if member.isfifo():
        return "pipes"
    if member.isdev():
        return "devices"
    if not member.isreg() or member.issparse():
        return "members of a rare kind"
    return inside_system_or_hidden(member.name)


def kind_of_zip_member(member: zipfile.ZipInfo) -> tuple[str, str]:
    """As `kind_of_tar_member`, with what to do about it."""
    if stat.S_ISLNK(member.external_attr >> 16):
        return _LINKS, ""
    if kind := inside_system_or_hidden(member.filename):
        return kind, ""
    if member.flag_bits & 1:
        return ENCRYPTED, "unpack the archive with its password and give the folder"
    return "", ""


def is_image_member(
    name: str, head: Callable[[], bytes], opened: Callable[[], IO[bytes] | None], report: ScanReport
) -> bool:
    """Whether a member is an image that can be read; else it is counted.

    Args:
        head: reads its first bytes, which is done only where its ending does not say what it is.
        opened: opens it, to look further inside. Raises OSError.
    """
    image, kind, advice = look_into(head() if content_decides(name) else None, name, opened)
    if not image:
        report.skip(kind, name, next=advice)
    return image
