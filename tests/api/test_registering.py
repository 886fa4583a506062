"""What `register_method` takes and refuses, before any recipe names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple, Required, TypedDict, Unpack

import pytest
from torch import Tensor, nn

import barlowctl
from barlowctl.api.registering import register_method
from barlowctl.methods import Method
from barlowctl.recipe import bare_words, load
from barlowctl.recipe.keys import Own
from barlowctl.recipe.objectives import METHODS
from tests.api.own_methods import forget

TABLE: dict[str, float] = {}
PLAIN: dict[str, Any] = {"name": "x", "data": {"dataset": "x"}}


class Terms(NamedTuple):
    loss: Tensor
    cosine: Tensor


class Whole(Method):
    """What a method must have, and no more."""

    terms: ClassVar[dict[str, str]] = {"cosine": "mean cosine"}

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def embeddings(self, views: Any) -> Any:
        return [self.backbone(view) for view in views]

    def compare(self, embeddings: Any, targets: Any) -> Any:
        cosine = nn.functional.cosine_similarity(*embeddings).mean()
        return Terms(1 - cosine, cosine.detach())

    def heads(self) -> dict[str, nn.Module]:
        return {}

    def describe(self, batch: int, ranks: int = 1) -> str:
        return "1 - cosine"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget()


def changed(**attributes: Any) -> type[Whole]:
    return type("Changed", (Whole,), attributes)


def lacking(name: str) -> type[Method]:
    members = {
        key: value for key, value in vars(Whole).items() if key != name and key not in ("__dict__", "__weakref__")
    }
    return type("Lacking", (Method,), {key: value for key, value in members.items() if not key.startswith("_abc")})


def with_parameters(*names: str) -> Any:
    scope: dict[str, Any] = {}
    exec(f"def made({', '.join(names)}): pass", scope)
    return scope["made"]


def test_without_attributes_it_takes_two_views_and_is_called_by_its_name() -> None:
    assert barlowctl.register_method is register_method
    assert register_method("whole")(Whole) is Whole
    keys = METHODS["whole"]
    assert (keys.title, keys.full_views, keys.small_views, keys.patches) == ("whole", 2, False, False)
    assert (keys.labels, keys.averages, keys.decorrelates) == (False, False, False)


def test_attributes_say_what_it_asks_of_a_recipe() -> None:
    asks = changed(title="Own", views=1, small_views=True, labels=True, averages=True, decorrelates=True)
    register_method("own")(asks)
    keys = METHODS["own"]
    assert (keys.title, keys.full_views, keys.small_views) == ("Own", 1, True)
    assert (keys.labels, keys.averages, keys.decorrelates) == (True, True, True)

    @register_method("made")
    def made(backbone: nn.Module) -> Whole:
        return Whole(backbone)

    assert METHODS["made"].full_views == 2


class Options(TypedDict, total=False):
    """Keyword arguments that a type checker knows."""

    width: Required[int]
    form: Literal["a", "b"]
    ranks: Any


def test_keyword_arguments_of_a_typed_dict_are_keys() -> None:
    @register_method("typed")
    def made(backbone: nn.Module, **options: Unpack[Options]) -> Whole:
        return Whole(backbone)

    keys = METHODS["typed"]
    assert issubclass(keys, Own)
    assert (keys.given, keys.plain) == (("backbone", "ranks"), ("width", "form"))
    fields = keys.model_fields["args"].annotation.model_fields  # type: ignore[union-attr]
    assert fields["width"].is_required()
    assert (fields["form"].is_required(), fields["form"].default) == (False, None)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (nn.Linear, "'x' is registered as the class Linear, which is no method"),
        (3, "'x' is registered as an int"),
        (lacking("compare"), "Lacking lacks compare"),
        (lacking("terms"), "Lacking.terms is missing"),
        (changed(terms={}), "Changed.terms is {}"),
        (changed(terms=["cosine"]), r"Changed.terms is \['cosine'\]"),
        (changed(views=3), "the method 'x' has views = 3"),
        (changed(views=True), "the method 'x' has views = True"),
        (changed(labels="yes"), "the method 'x' has labels = 'yes'"),
        (changed(title=""), "the method 'x' has title = ''"),
        (changed(patches=True), "the method 'x' has patches = True"),
        (with_parameters("backbone", "**more"), r"the method 'x' takes \*\*more: a mistyped key"),
        (with_parameters("backbone", "*more"), r"the method 'x' takes \*more, which has no name"),
        (with_parameters("backbone", "/"), "the method 'x' takes backbone, which has no name"),
        (with_parameters("projector"), "the method 'x' takes no backbone"),
    ],
)
def test_what_is_no_method_is_refused(made: Any, message: str) -> None:
    with pytest.raises(barlowctl.UserError, match=message):
        register_method("x")(made)
    assert "x" not in METHODS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("byol", r"'byol' is a method of barlowctl's own, and cannot be registered, .*test_registering.py, line 2\d"),
        ("My Method", "a method is registered as 'My Method'"),
        ("", "a method is registered as ''"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, message: str) -> None:
    with pytest.raises(barlowctl.UserError, match=message):
        register_method(name)(Whole)


def test_without_a_name_it_says_how_it_is_written() -> None:
    with pytest.raises(barlowctl.UserError, match="name is "):
        register_method(Whole)  # type: ignore[arg-type]


def test_the_same_one_again_takes_its_place_and_another_is_refused() -> None:
    def cell(default: float) -> Any:
        def of_the_cell(backbone: nn.Module, weight: float = default): ...

        return of_the_cell

    register_method("again")(cell(1.0))
    register_method("again")(cell(2.0))
    assert METHODS["again"].model_validate({"name": "again"}).args.weight == 2.0  # type: ignore[attr-defined]
    with pytest.raises(barlowctl.UserError, match=r"'again' is registered twice: .*of_the_cell, .*; and .*Whole, .*"):
        register_method("again")(Whole)


def test_keys_are_of_the_kinds_that_parameters_are_annotated_with_or_of_their_defaults() -> None:
    @register_method("kinds")
    def made(
        backbone: nn.Module, *, count: int, mode: Literal["a", "b"] = "a", rate=0.5, size=3, flag=False, word="w",
        pair: tuple[int, int] = (1, 2), table: dict[str, float] = TABLE, free=None, act=nn.ReLU, odd: nn.Module = "x",
    ): ...  # fmt: skip

    def read(**values: Any) -> Any:
        return METHODS["kinds"].model_validate({"name": "kinds", "args": {"count": 1, **values}}).args  # type: ignore[attr-defined]

    defaults = {
        "count": 1,
        "mode": "a",
        "rate": 0.5,
        "size": 3,
        "flag": False,
        "word": "w",
        "pair": (1, 2),
        "table": {},
    }
    assert read().model_dump() == {**defaults, "odd": "x"}
    assert read(rate=2, size=0.5, pair=[3, 4], free=[1], table={"a": 1}).model_dump()["pair"] == (3, 4)
    for wrong in ({"count": 1.5}, {"mode": "c"}, {"flag": 2}, {"rate": "x"}, {"size": True}, {"word": 1}, {"act": "x"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            read(**wrong)


def test_what_a_key_takes_is_said_of_every_kind() -> None:
    @register_method("said")
    def made(backbone: nn.Module, anything, rate=0.5, size=3, most: float | None = None): ...

    for values, words in (
        ({"size": "x"}, "objective.args.size is 'x'. Allowed: a number."),
        ({"most": "x"}, "objective.args.most is 'x'. Allowed: a number."),
    ):
        with pytest.raises(barlowctl.UserError) as refused:
            load.validate({**PLAIN, "objective": {"name": "said", "args": {"anything": [1], **values}}}, "file")
        assert words in str(refused.value)
    assert bare_words.takes("objective.args.anything") == "any value"
    assert bare_words.takes("objective.args.size") == "a number"
