"""Which column of Parquet files holds the images: candidates by type, then by name and by what is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from barlowctl.data.images.formats import HEAD, by_content, readable
from barlowctl.data.labels.label_table import no_such_column
from barlowctl.errors import UserError, did_you_mean, instead

_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "rgb", "pixel_values", "bytes", "content")
_PATHS = (
    "path", "image_path", "img_path", "file_path", "filepath", "file_name", "filename", "image_file", "file", "image",
    "img", "paths", "images",
)  # fmt: skip
_NO_IMAGES = ("mask", "seg", "label", "depth", "normal", "annotation", "thumb", "target", "embedding", "hash", "id")


def image_columns(schema: Any) -> list[str]:
    """Columns that may hold images: bytes, or a struct with a field `bytes` (Hugging Face); in a struct as "a.b"."""
    return [name for field in schema for name in _candidates(field, "")]


def path_columns(schema: Any) -> list[str]:
    """Columns of text that are called like paths of images: read where no column holds images itself."""
    text = text_columns(schema)
    named = {name: name.lower().replace("-", "_") for name in text}
    return sorted((name for name in text if named[name] in _PATHS), key=lambda name: _PATHS.index(named[name]))


def columns_of_lists(schema: Any) -> list[str]:
    """Columns with a list of images a row, which are not read."""
    import pyarrow as pa

    lists = [f for f in schema if pa.types.is_list(f.type) or pa.types.is_large_list(f.type)]
    return [field.name for field in lists if next(_candidates(field.type.value_field, ""), None) is not None]


def _candidates(field: Any, inside: str) -> Iterator[str]:
    import pyarrow as pa

    name, kind = f"{inside}{field.name}", field.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        yield name
    elif pa.types.is_struct(kind):
        inner = [kind.field(i) for i in range(kind.num_fields)]
        if any(child.name == "bytes" for child in inner):
            yield name
        else:
            for child in inner:
                yield from _candidates(child, f"{name}.")


def choose_image_column(
    schema: Any, requested: str | None, first: Callable[[str], bytes | None], where: str
) -> tuple[str, list[str]]:
    """The column to read, and the others that hold images.

    Args:
        requested: what was asked for, if anything.
        first: a column's first bytes that are not null; None: it has none.
        where: the file, for messages.

    Raises:
        UserError: no such column.
    """
    columns, of_text = image_columns(schema), text_columns(schema)
    if requested is not None:
        if requested in of_text:
            return requested, []
        if requested not in columns:
            raise UserError(
                f"--image-column is '{requested}'{did_you_mean(requested, columns)}; "
                f"{where} has no such column of images",
                allowed=", ".join(columns) or "a file with a column of bytes",
                next=instead("--image-column", requested, columns) if columns else "give Parquet files of images",
            )
        return requested, [name for name in columns if name != requested]
    if not columns and (paths := path_columns(schema)):
        return paths[0], []
    if not columns:
        raise UserError(
            f"{where} has no column of images; it has {', '.join(schema.names[:12])}",
            allowed="bytes, a struct with a field 'bytes', or paths of image files in a column called path, file_name, "
            "image_path or the like (another is taken with --image-column)",
            next="give Parquet files of images",
        )
    if len(columns) == 1:
        return columns[0], []
    with_images = [name for name in columns if _is_image(first(name))]
    ranked = sorted(with_images or columns, key=_rank)
    return ranked[0], [name for name in columns if name != ranked[0] and name in ranked]


def text_columns(schema: Any) -> list[str]:
    """Columns of text, which may be paths where they are asked for."""
    import pyarrow as pa

    return [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]


def _is_image(data: bytes | None) -> bool:
    content = by_content(data[:HEAD]) if data else None
    return content is not None and readable(content)


def _rank(name: str) -> tuple[int, int]:
    base = name.rpartition(".")[2].lower()
    if base in _IMAGES:
        return 0, _IMAGES.index(base)
    words = set(base.replace("-", "_").split("_"))
    if words & set(_NO_IMAGES) or any(word in base for word in ("mask", "depth", "thumb", "segm")):
        return 3, 0
    return (1, 0) if any(word in base for word in ("image", "img", "rgb", "photo", "picture")) else (2, 0)


def path_of(schema: Any, column: str) -> list[str]:
    """A column's own name, then the fields to follow inside it. A name may have dots itself."""
    if column in schema.names:
        return [column]
    top = next((name for name in schema.names if column.startswith(f"{name}.")), column)
    if top == column:
        return [column]
    return [top, *column[len(top) + 1 :].split(".")]


def value_at(value: Any, fields: list[str]) -> Any:
    """What lies inside a row's value: bytes, a dictionary with them, or None."""
    for name in fields:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def read_values(opened: Any, column: str) -> list[Any]:
    """All values of a column of an opened file; inside a struct it is written with dots.

    Raises:
        UserError: it has no such column.
    """
    schema = opened.schema_arrow
    top, *fields = path_of(schema, column)
    read = opened.read(columns=[column]) if top in schema.names else None
    if read is None or not read.num_columns:
        images = {path_of(schema, name)[0] for name in (*image_columns(schema), *columns_of_lists(schema))}
        raise no_such_column(column, [name for name in schema.names if name not in images], "the Parquet file")
    return [value_at(value, fields) for value in read.column(0).to_pylist()]
