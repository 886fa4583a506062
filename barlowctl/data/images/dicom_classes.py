"""DICOM files that hold no picture, by what their first bytes say they are: reports, plans, curves."""

from __future__ import annotations

import re

KIND = "DICOM files without a picture (reports, plans)"

_CLASS = b"\x02\x00\x02\x00UI"
"""The tag of the class, Media Storage SOP Class UID (PS3.10, 7.1), and its type."""

_WITHOUT = re.compile(
    r"1\.2\.840\.10008\.(1\.3\.10"  # DICOMDIR
    r"|5\.1\.4\.(34|38|39|43|44|45)\..*"  # steps of treatment, hanging protocols, palettes, implants
    r"|5\.1\.4\.1\.1\.((9|11|88|104|131|200|201)(\..*)?"  # curves, presentation states, reports, documents, protocols
    r"|4\.2|10|129|66(\.[12356])?|67|68\.[12]|90\.1|91\.1"  # spectra, tables, registrations, surfaces, annotations
    r"|77\.1\.5\.3|78\.[1-8]|79\.1|80\.1"  # eyes in numbers
    r"|481\.([3-9]|1[0-9]|2[0-25])))"  # of radiotherapy: all but its images and doses
)
"""Storage classes of PS3.4, B.5, whose objects have no pixels."""


def without_picture(head: bytes) -> bool:
    """Whether a file's first bytes say that it is a DICOM file of a kind that has no pixels."""
    at = head.find(_CLASS, 132)
    if head[128:132] != b"DICM" or at < 0:
        return False
    begin = at + len(_CLASS) + 2
    uid = head[begin : begin + int.from_bytes(head[begin - 2 : begin], "little")]
    return _WITHOUT.fullmatch(uid.rstrip(b"\0 ").decode("ascii", "replace")) is not None
