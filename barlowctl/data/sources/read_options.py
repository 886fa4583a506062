"""What somebody wants read where a source leaves a choice; what is None is chosen by the reader, which says so."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from barlowctl.errors import UserError, instead

if TYPE_CHECKING:
    from barlowctl.data.sources.picture import Source

LayoutName = Literal["folder", "shards"]
ClassFolders = Literal["outer", "inner"]


@dataclass(frozen=True)
class ReadOptions:
    """Choices, as flags of `data pack` make them.

    layout: of a folder that has both: its images, or the tar or Parquet files in it.
    member: which image of each sample in tar files, by its ending ("jpg", "seg.png"); "all": every one.
    image_column, label_column: of Parquet files; a column in a struct is written with a dot; labels "none": without. Of
        HDF5 files and NumPy's archives the names of arrays.
    class_folders: which folders are classes: the outermost, or those that images lie in directly.
    hold_out: percentage of each class that is the test split of images that have none; see `hold_out`.
    groups: a regular expression: images whose names have the same match are held out, or trained on, together.
    groups_column: of Parquet files and tables, in place of the names; alone, images with the same value are together.
    """

    layout: LayoutName | None = None
    member: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    class_folders: ClassFolders | None = None
    hold_out: int | None = None
    groups: str | None = None
    groups_column: str | None = None

    def __post_init__(self) -> None:
        if self.layout not in (None, *get_args(LayoutName)):
            raise UserError(
                f"--layout is '{self.layout}'",
                allowed="folder, shards",
                next=instead("--layout", str(self.layout), get_args(LayoutName)),
            )

        for flag, value in (("--groups", self.groups), ("--groups-column", self.groups_column)):
            if value is not None and self.hold_out is None:
                raise UserError(
                    f"{flag} is '{value}', and nothing is held out", allowed="with --hold-out", next="--hold-out 20"
                )

    def noted(self) -> dict[str, Any]:
        """The choices that were made, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    def flags(self) -> list[str]:
        """The choices that were made as flags of `data pack`."""
        named = {f"--{name.replace('_', '-')}": str(value) for name, value in self.noted().items()}
        return [word for pair in named.items() for word in pair]

    def check_used(self, source: Source) -> None:
        """Refuse a choice that a source does not have.

        Raises:
            UserError: names the flag.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if (
                field.name not in ("layout", "hold_out", "groups", "groups_column")
                and value is not None
                and field.name not in source.choices
            ):
                flag = f"--{field.name.replace('_', '-')}"
                raise UserError(
                    f"{flag} is '{value}', but {source.path} is read as {source.kind}",
                    allowed="--member with tar files; --image-column and --label-column with Parquet and HDF5 "
                    "files and NumPy's archives; "
                    "--class-folders with images in folders",
                    next=f"without {flag}",
                )


NO_OPTIONS = ReadOptions()
