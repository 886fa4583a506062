"""Numbers of the paper (arXiv 2103.03230), to stand beside one's own. Percent; None: not published."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A method and its values, in the order of its table's columns."""

    method: str
    values: tuple[float | None, ...]


class Table(NamedTuple):
    """A table of the paper."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, name: str) -> list[tuple[str, float]]:
        """Methods and their values in one column, where published."""
        index = self.columns.index(name)
        pairs = [(row.method, row.values[index]) for row in self.rows]
        return [(method, value) for method, value in pairs if value is not None]


LINEAR = Table(
    "Table 1: linear evaluation on ImageNet, ResNet-50",
    ("top-1", "top-5"),
    (
        Row("Supervised", (76.5, None)),
        Row("MoCo", (60.6, None)),
        Row("PIRL", (63.6, None)),
        Row("SimCLR", (69.3, 89.0)),
        Row("MoCo v2", (71.1, 90.1)),
        Row("SimSiam", (71.3, None)),
        Row("SwAV (no multi-crop)", (71.8, None)),
        Row("BYOL", (74.3, 91.6)),
        Row("SwAV", (75.3, None)),
        Row("Barlow Twins", (73.2, 91.0)),
    ),
)
SEMI = Table(
    "Table 2: semi-supervised on ImageNet",
    ("1 % top-1", "10 % top-1", "1 % top-5", "10 % top-5"),
    (
        Row("Supervised", (25.4, 56.4, 48.4, 80.4)),
        Row("PIRL", (None, None, 57.2, 83.8)),
        Row("SimCLR", (48.3, 65.6, 75.5, 87.8)),
        Row("BYOL", (53.2, 68.8, 78.4, 89.0)),
        Row("SwAV", (53.9, 70.2, 78.5, 89.9)),
        Row("Barlow Twins", (55.0, 69.7, 79.2, 89.3)),
    ),
)
TRANSFER = Table(
    "Table 3: transfer of ImageNet features, linear classifiers",
    ("places205", "voc07", "inat18"),
    (
        Row("Supervised", (53.2, 87.5, 46.7)),
        Row("SimCLR", (52.5, 85.5, 37.2)),
        Row("MoCo v2", (51.8, 86.4, 38.6)),
        Row("SwAV (no multi-crop)", (52.8, 86.4, 39.5)),
        Row("SwAV", (56.7, 88.9, 48.6)),
        Row("BYOL", (54.0, 86.6, 47.6)),
        Row("Barlow Twins", (54.1, 86.2, 46.5)),
    ),
)
DETECTION = Table(
    "Table 4: detection (VOC07+12, Faster R-CNN C4) and segmentation (COCO, Mask R-CNN C4)",
    (
        "voc0712 AP", "voc0712 AP50", "voc0712 AP75", "coco AP", "coco AP50", "coco AP75", "coco mask AP",
        "coco mask AP50", "coco mask AP75",
    ),
    (
        Row("Supervised", (53.5, 81.3, 58.8, 38.2, 58.2, 41.2, 33.3, 54.7, 35.2)),
        Row("MoCo v2", (57.4, 82.5, 64.0, 39.3, 58.9, 42.5, 34.4, 55.8, 36.5)),
        Row("SwAV", (56.1, 82.6, 62.7, 38.4, 58.6, 41.3, 33.8, 55.2, 35.9)),
        Row("SimSiam", (57.0, 82.4, 63.7, 39.2, 59.3, 42.1, 34.4, 56.0, 36.7)),
        Row("Barlow Twins", (56.8, 82.6, 63.4, 39.2, 59.0, 42.5, 34.3, 56.0, 36.5)),
    ),
)  # fmt: skip
