"""All advice that is a command is typed by a test (tests/cli/test_advice_followed.py), or has a reason why not."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache

import pytest

from barlowctl.errors import UserError
from barlowctl.packages import package_of
from tests.advice import sites as advice_sites
from tests.advice.by_hand import NOT_FOLLOWED, NOT_TYPED
from tests.advice.checked import CHECKOUT
from tests.advice.collected import PACKAGE, VALUE, collect
from tests.advice.followed import not_to_be_typed, recorded
from tests.advice.scenarios import SCENARIOS, TOPICS

FOLLOWED = {(site, text) for pairs in recorded().values() for site, text in pairs}


@cache
def given() -> dict[tuple[str, str], str]:
    """Sites and the texts that they give -> where that is."""
    sites = advice_sites.sites()
    return {(site.name, text): f"barlowctl/{site.module}:{site.lines[0]}" for site in sites for text in site.texts}


def test_advice_is_followed() -> None:
    texts = {pair: where for pair, where in given().items() if pair[1] != VALUE}
    assert len(texts) > 300
    never = [
        f"{where}: next: {text}"
        for (site, text), where in texts.items()
        if not ({(site, text)} & (FOLLOWED | NOT_FOLLOWED.keys()) or not_to_be_typed(text.replace(VALUE, "x")))
    ]
    assert never == [], (
        "no test types it: add a scenario to tests/advice/scenarios that comes to it (see tests/advice/followed.py), "
        "or say in tests/advice/by_hand.py why no test can"
    )


def test_what_is_recorded_is_there() -> None:
    """Each record is of a scenario, which asserts it whenever it is run, and of advice that the code gives."""
    assert set(recorded()) == set(SCENARIOS)
    assert set(given()) >= FOLLOWED, FOLLOWED - set(given())
    assert sum(len(topic.SCENARIOS) for topic in TOPICS) == len(SCENARIOS)  # no name is used twice


def test_reasons_are_of_advice_that_is_there_and_not_followed() -> None:
    assert set(NOT_FOLLOWED) <= set(given()), set(NOT_FOLLOWED) - set(given())
    assert not set(NOT_FOLLOWED) & FOLLOWED
    texts = [text.replace(VALUE, "x") for _, text in given()]
    assert all(any(advice_sites.pattern(unused).fullmatch(text) for text in texts) for unused in NOT_TYPED)
    assert len(NOT_FOLLOWED) < 60 < 150 < len(FOLLOWED)


def test_where_an_error_comes_from_is_seen() -> None:
    from barlowctl.recipe import catalog

    def sites_of(name: str) -> list[str]:
        caught: list[advice_sites.Site] = []

        class Seen(UserError):
            def __init__(self, *arguments: object, **options: object) -> None:
                caught.extend(advice_sites.on_the_way(sys._getframe(1)))
                super().__init__("seen")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(catalog, "UserError", Seen)
            with pytest.raises(Seen):
                catalog.find(name)
        return [site.name for site in caught if site.given("barlowctl recipes list")]

    assert sites_of("/") == ["recipe/catalog.py find"]
    assert sites_of("/dev/null") == ["recipe/catalog.py find#2"]
    assert sites_of("nothing of this name") == ["recipe/catalog.py find#3"]


def test_an_extra_that_is_advised_brings_the_package() -> None:
    """`pip install 'barlowctl[plots]'` is not typed here: that it would help is read off pyproject.toml."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: " ".join(packages) for name, packages in project["optional-dependencies"].items()}
    packages_of = {"plots": "matplotlib", "embed": "pyarrow umap-learn scikit-learn", "svm": "scikit-learn",
              "tensorboard": "tensorboard", "wandb": "wandb", "detection": "pycocotools"}  # fmt: skip
    advised = {advice.text.partition("[")[2].partition("]")[0] for advice in collect() if "barlowctl[" in advice.text}
    required = [call for path in PACKAGE.rglob("*.py") for call in _calls_of_required(path.read_text(encoding="utf-8"))]
    assert {"plots", "svm", "embed", "detection", "transformers"} <= {extra for extra, _ in required}
    for extra in advised - {VALUE}:
        assert all(package in extras[extra] for package in packages_of.get(extra, extra).split()), extra
    for extra, modules in required:
        assert all(package_of(module) in extras[extra] for module in modules), extra


def _calls_of_required(source: str) -> Iterator[tuple[str, list[str]]]:
    """Extra and modules of the calls of `packages.required` in a source; modules that are computed are left out."""
    for node in ast.walk(ast.parse(source)) if "required(" in source else ():
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "required":
            extras = [keyword.value for keyword in node.keywords if keyword.arg == "extra"]
            modules = [word.value for word in node.args[1:] if isinstance(word, ast.Constant)]
            yield from ((str(extra.value), modules) for extra in extras if isinstance(extra, ast.Constant))
