"""What a method is given and makes: views that are none, another width, and no loss, are refused in its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from barlowctl.amounts import counted
from barlowctl.errors import UserError, kind_of
from barlowctl.objective.batch_mean import WITHOUT_SINGLE

_SINGLE = "Expected more than 1 value per channel"  # torch's, of batch norm
VIEWS = "a list of float tensors (N, C, H, W), one for each view, of the same N images"


def check_views(views: Any) -> None:
    """Refuse what are no views of the same images.

    Raises:
        UserError: one tensor in place of a list, none, no tensors, no floating point, or of other numbers of images.
    """
    if isinstance(views, Tensor):
        raise UserError(
            f"views are one tensor of shape {tuple(views.shape)}", allowed="a list of tensors, one for each view"
        )
    if not isinstance(views, Sequence) or not views:
        given = "an empty list" if isinstance(views, Sequence) else kind_of(views)
        raise UserError(f"views are {given}", allowed=VIEWS)
    for number, view in enumerate(views):
        if not isinstance(view, Tensor):
            raise UserError(f"views[{number}] is {kind_of(view)}, no tensor", allowed=f"{VIEWS}: torch.as_tensor(view)")
        if not view.is_floating_point():
            raise UserError(
                f"views[{number}] has {view.dtype} values",
                allowed=f"{VIEWS}: of 8-bit pixels (view / 255 - mean) / std",
            )
    if len(rows := {len(view) for view in views}) > 1:
        raise UserError(f"views of {' and '.join(map(str, sorted(rows)))} images", allowed=VIEWS)


@contextmanager
def too_few_explained(name: str, views: Sequence[Tensor], least: int) -> Iterator[None]:
    """Where fewer views than a method takes, or views of one image, come to an error that says nothing of it, say it.

    Args:
        name: of the method. least: how many views it takes, at least.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if _SINGLE in str(error) and max(map(len, views), default=0) == 1:
            raise UserError(
                f"{name} got views of 1 image, and batch norm in training takes means over at least 2",
                allowed="at least 2 images",
                next=WITHOUT_SINGLE,
            ) from error
        if len(views) >= least:
            raise
        raise UserError(
            f"{name} takes {counted(least, 'view')} of each image, got {len(views)}", allowed=VIEWS
        ) from error


def check_width(width: int, embeddings: Tensor) -> None:
    """Refuse embeddings `(N, D)` of another width than the method was made for.

    Raises:
        UserError: with both.
    """
    if embeddings.shape[-1] != width:
        made = counted(embeddings.shape[-1], "dimension")
        raise UserError(f"width is {width}, and the embeddings have {made}", allowed=f"width={embeddings.shape[-1]}")


def check_embeddings(name: str, embeddings: Any) -> None:
    """Refuse what `embeddings` gives back where that is no list of tensors: micro-batches put them together.

    Raises:
        UserError: says what it is.
    """
    if not isinstance(embeddings, Sequence):
        of = f"a tensor of shape {tuple(embeddings.shape)}" if isinstance(embeddings, Tensor) else kind_of(embeddings)
    elif wrong := [value for value in embeddings if not isinstance(value, Tensor)]:
        of = f"a list with {kind_of(wrong[0])} in it"
    else:
        return
    raise UserError(
        f"{name}.embeddings returns {of}", allowed="a list of tensors (N, ...), each with a row for each image"
    )


def check_terms(name: str, terms: Any, names: Iterable[str] | None) -> None:
    """Refuse what `compare` gives back where it has no loss, or other terms than the method's.

    Args:
        names: of the terms beside the loss, as `terms` of the method has them; None: it says none.

    Raises:
        UserError: it is no named tuple with a field `loss`, or that is no tensor of one number, or others follow it.
    """
    loss = getattr(terms, "loss", None)
    if not hasattr(terms, "_asdict") or loss is None:
        fault = f"{kind_of(terms)}, and no terms"
    elif not isinstance(loss, Tensor):
        fault = f"terms whose loss is {kind_of(loss)}, and no tensor"
    elif loss.numel() != 1:
        fault = f"terms whose loss has the shape {tuple(loss.shape)}, and is not one number"
    elif names is not None and (fields := [*terms._asdict()]) != ["loss", *names]:
        raise UserError(
            f"{name}.compare returns {', '.join(fields)}, and {name}.terms names {', '.join(names) or 'nothing'}",
            allowed=f"a typing.NamedTuple of {', '.join(['loss', *names])}, in this order",
        )
    else:
        return
    raise UserError(
        f"{name}.compare returns {fault}",
        allowed="a typing.NamedTuple of 0-dimensional tensors whose first field is loss",
    )
