"""The pages as a site: every page is in the navigation, links lead somewhere, nothing comes from another host."""

from __future__ import annotations

import html
import inspect
import json
import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import barlowctl

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
PAGES = sorted(page.relative_to(DOCS).with_suffix("") for kind in ("md", "ipynb") for page in DOCS.rglob(f"*.{kind}"))
MARKDOWN = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md"), *(CHECKOUT / ".github").rglob("*.md")])
FENCED = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")


def listed() -> list[Path]:
    """The pages of the navigation, in its order."""
    names = []
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text(), re.MULTILINE | re.DOTALL):
        for line in (line for line in block.splitlines() if line and not line.startswith(":")):
            pages = [page for page in PAGES if page.match(line)] if "*" in line else [Path(line)]
            assert pages, f"docs/index.md: {line} names no page"
            names += pages
    return names


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings, of `#` in a link."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings]
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain]
    counts = Counter(slugs)
    return {slug if n == 0 else f"{slug}-{n}" for slug in counts for n in range(counts[slug])}


def dead(page: Path) -> Iterator[str]:
    """Links of a page that lead to no file, or to no heading of one."""
    text = re.sub(r"`[^`\n]+`", "", FENCED.sub("", page.read_text(encoding="utf-8")))
    for target in LINK.findall(text):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            yield target


def test_every_page_is_in_the_navigation_once() -> None:
    assert Counter(listed()) == Counter(page for page in PAGES if page != Path("index"))
    assert len(PAGES) > 25


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(dead(page)) == []


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n[a](#a-b-c) [b](#b) [c](page.md#a-b-c) [d](page.md#d) [e](e.md) [f](https://f.org)\n")
    assert list(dead(page)) == ["#b", "page.md#d", "e.md"]


TYPED = re.compile(r"^(barlowctl|docker|hf|lightly-train|make|pip|python3?|spt) ", re.MULTILINE)
ROOM = 106  # characters of code in the width that a desktop of 1280 pixels leaves to the page


def blocks(page: Path) -> Iterator[str]:
    """The page's code: fenced or indented, or a notebook's cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        yield from ("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
        return
    yield from (match[0] for match in FENCED.finditer(text))
    yield from re.findall(r"\n\n((?:    .*\n|\n)+)", FENCED.sub("", text))


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_no_words_are_taken_for_tags(page: Path) -> None:
    """GitHub and the site show nothing of `<name>` outside of code."""
    text = re.sub(r"^    .*$|`[^`]*`", "", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    assert re.findall(r"<(?!!--|https?:)[a-zA-Z/][^>]*>", text) == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_desktop_shows_code_and_tables_whole(page: Path) -> None:
    """Code that is typed goes on in the next line; other code is scrolled, and so is a table of many columns."""
    kinds = [file for kind in (".md", ".ipynb") if (file := DOCS / page.with_suffix(kind)).is_file()]
    code = [block for block in blocks(kinds[0]) if not TYPED.search(textwrap.dedent(block))]
    assert [line for block in code for line in textwrap.dedent(block).splitlines() if len(line) > ROOM] == []
    rows = [line for line in kinds[0].read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert [row for row in rows if row.count("|") - row.count("\\|") > 10] == []


ELSEWHERE = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")
FETCHED = re.compile(r"""(?:url\(|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_takes_nothing_from_another_host(tmp_path: Path) -> None:
    for package in ("sphinx", "furo", "myst_nb"):
        pytest.importorskip(package, reason="pip install '.[docs]' brings what builds the site")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "trees")]
    done = subprocess.run([*command, str(DOCS), str(site)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert [page for page in PAGES if not (site / page).with_suffix(".html").is_file()] == []
    built = "".join(file.read_text(encoding="utf-8") for file in site.rglob("*.html"))
    assert ELSEWHERE.findall(built) == []
    assert FETCHED.findall("".join(file.read_text(encoding="utf-8") for file in site.rglob("*.css"))) == []
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    searched = json.loads(index[index.index("(") + 1 : index.rindex(")")])
    with_word = {searched["docnames"][place] for place in searched["terms"]["winograd"]}
    assert "step" in with_word
    assert [page for page in with_word if page in ("experiments", "changelog") or page.startswith("benchmarks/")] == []
    assert re.findall(r"<a [^>]*internal[^>]*>(?:<[^>]*>)*([^<]+\.md)<", built) == [], (
        "a page that is named by its file"
    )
    assert "<span>Experiment log</span></a>, third" in built
    pages = {name: (site / name).read_text(encoding="utf-8") for name in ("howto/photos.html", "objective.html")}
    assert re.findall("[\u2013\u2014][a-z]+", built) == [], "the name of an option with a dash for its two hyphens"
    assert '<span class="n">--shorter-side 256</span>' in pages["howto/photos.html"], "an option without its value"
    assert 'unbroken docutils literal notranslate"><span class="pre">--dry-run' in pages["howto/photos.html"]
    assert '<span class="number">1e-9</span>' in pages["objective.html"]
    split = re.findall(r"[^>]*\d(?:\.|e-)</span><wbr><span class=\"pre\">\d[^<]*", built)
    assert split == [], "a number that goes on in the next line"
    assert '<span class="number">2026-11-25</span>' in pages["objective.html"]
    assert re.search(r'<td class="[^"]*number"><p>71\.4</p>', pages["objective.html"])
    assert '<span class="p">    </span><span class="n">--set eval.queries=off</span>' in pages["howto/photos.html"]
    assert re.search(
        r"<code[^>]*unbroken[^>]*>(?:(?!</code>).)*--method", (site / "step.html").read_text(encoding="utf-8")
    )
    loader = (site / "loader.html").read_text(encoding="utf-8")
    assert '<span class="pre">test_fast.py::test_an_</span><wbr><span class="pre">index' in loader, (
        "names widen a table"
    )
    commands = (site / "cli.html").read_text(encoding="utf-8")
    assert 'continue with <span class="number">--resume</span>' in commands
    reference = (site / "api.html").read_text(encoding="utf-8")
    assert 'id="barlowctl.pretrain"' in reference
    assert "Raises" in reference
    assert "factory" not in reference
    assert "~" not in "".join(re.findall(r'<dt class="sig.*?</dt>', reference, re.DOTALL)), "a signature as it came"
    assert '<span class="pre">timm|torchvision|hub|</span><wbr>' in commands, "choices widen a table"
    assert "<strong>license</strong> \u2013 of the weights" in reference, "an argument without a line of its own"
    assert '{"eval.resize": 256, "eval.crop": 224}' in html.unescape(reference), "quotation marks that Python has not"
    types = re.findall(r"<dt[^>]*>Type<span.*?</dt>\s*<dd[^>]*>(.*?)</dd>", reference, re.DOTALL)
    sentences = [re.sub("<[^>]+>", "", words).strip() for words in types if " " in words]
    assert [words for words in sentences if not re.search(r"[|\[]", words)] == [], (
        "napoleon took what stands before a colon for a type"
    )


def test_no_property_begins_with_what_napoleon_takes_for_a_type() -> None:
    """Without Sphinx: what stands before a colon in the first line of a property's docstring."""
    begun = {
        f"{name}.{attribute}": (inspect.getdoc(value) or "").partition("\n")[0]
        for name in barlowctl.__all__
        if isinstance(of := getattr(barlowctl, name), type)
        for attribute, value in inspect.getmembers(of)
        if isinstance(value, property) and not attribute.startswith("_")
    }
    assert "Run.notices" in begun
    assert {name: line for name, line in begun.items() if re.match(r"[^`(]*: ", line)} == {}


def test_what_comes_from_another_host_is_seen() -> None:
    page = '<link rel="x" href="https://fonts.org/f.css"><img src=//c.org/a.png><a href="//x.org"><img src="a.png">'
    assert ELSEWHERE.findall(page) == ["https://fonts.org/f.css", "//c.org/a.png"]
    assert FETCHED.findall('@import "https://a.org/b.css"; a { background: url(c.png) url(https://d.org/e) }') == [
        "https://a.org/b.css",
        "https://d.org/e",
    ]


def test_the_python_reference_has_all_that_is_public() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"auto\w+:: barlowctl\.(?:[a-z]+\.)*(\w+)$", page, re.MULTILINE))
    assert set(barlowctl.__all__) <= named
