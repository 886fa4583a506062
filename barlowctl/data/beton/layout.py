"""The layout of FFCV's dataset format (version 2) as numpy types, after `ffcv/types.py` of FFCV 1.0.2.

Little-endian, one after the other:

    HEADER         24 bytes: version, number of fields, page size, number of samples, address of the table
    DESCRIPTOR     one per field: type, name, arguments (1041 bytes each)
    metadata       one record per sample: IMAGE_RECORD (mode, width, height, address); label (int64)
    (gap)          ignored by FFCV; ours holds `INFO_MAGIC`, a length (8 bytes) and so many bytes of JSON
    data           the images; a sample never crosses an address that is a multiple of the page size
    (names)        ours, ignored by FFCV (see `names`)
    TABLE_ENTRY    one per stored piece: sample, address, size; until the end of the file
"""

from __future__ import annotations

from typing import Any

import numpy as np

JPEG, RAW = 0, 1
"""How an image is stored: FFCV's numbers. Raw is H x W x 3 uint8; of bands, which FFCV does not read, H x W x C."""

MAX_SIDE = 65535
"""Pixels: the format keeps width and height in 16 bits."""

MAX_PIXELS = 1 << 28
"""Of one image, 805 MB when decoded: what is packed and what the fast loader reads."""

PAGE_SIZE = 8 << 20
MAX_PAGE_SIZE = 1 << 31  # the header keeps it in 32 bits, and it is a power of two

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
DESCRIPTOR = np.dtype([("type_id", "<u1"), ("name", ("<u1", 16)), ("arguments", ("<u1", (1024,)))], align=True)
TABLE_ENTRY = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
IMAGE_RECORD = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])

FORMAT_VERSION = 2
IMAGE_FIELD, INT_FIELD = 2, 1
_PIECE = np.dtype([("ptr", "<u8"), ("size", "<u8")])
FIELD_RECORDS = {  # type_id -> its part of a sample's metadata; 255 (custom fields) cannot be known
    0: np.dtype("<f8"),
    INT_FIELD: np.dtype("<i8"),
    IMAGE_FIELD: IMAGE_RECORD,
    3: _PIECE,
    4: np.dtype("<u8"),
    5: _PIECE,
    6: np.dtype("<u8"),
}
INFO_MAGIC = b"barlowctl-info-1"


def hash_sample(digest: Any, mode: int, width: int, height: int, label: int, payload: Any) -> None:
    """Add one sample to a content hash (a `hashlib` object): its shape, label, size and stored bytes."""
    digest.update(np.array([mode, width, height, label, len(payload)], dtype="<i8"))
    digest.update(payload)
