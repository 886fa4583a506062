"""The documentation as a site: `make docs-site` builds it with Sphinx from these pages as they are (docs/index.md).

Nothing in what is built comes from another host: fonts are the system's, the search is a file beside the pages.
"""

from __future__ import annotations

import inspect
import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from pygments.lexer import RegexLexer
from pygments.token import Comment, Name, Punctuation, Whitespace

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

import barlowctl  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "barlowctl"
author = "The barlowctl authors"
version = release = barlowctl.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# Pages are GitHub's Markdown: its anchors of headings, and links to files that are no pages offer these files.
myst_heading_anchors = 4
myst_linkify_fuzzy_links = False
nb_execution_mode = "off"  # tests execute the notebook; its outputs are kept in it
nb_merge_streams = True  # a line that is printed is no block of its own
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # scripts that would come from another host

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
default_role = "code"
highlight_language = "text"  # a block without a name is what a terminal shows
smartquotes_action = "qe"  # not "D", which would make one dash of the two of an option's name
nitpicky = False


def _within_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    """Pages link to files of the repository's root that are pages here too."""
    for name in ("CONTRIBUTING", "CHANGELOG"):
        source[0] = source[0].replace(f"](../{name}.md", f"]({name.lower()}.md")


class Commands(RegexLexer):
    """What is typed into a shell: its words and its comments. site.css breaks no line within a word.

    An option and what follows it are one word, and so is the backslash that ends a line with the word before it.
    """

    option, word, end = r"--?[a-z][\w-]*", r"[^\s#]\S*", r"(?: \\(?=\n))?"
    tokens: ClassVar = {
        "root": [
            (r"^ +(?=\S)", Punctuation),  # how far a line that goes on is further in
            (r"#[^\n]*", Comment),
            (rf"{option} (?![-#\\]){word}{end}", Name),
            (rf"{word}{end}", Name),
            (r"\n|[^\S\n]+", Whitespace),
        ]
    }


TYPED = re.compile(r"^(barlowctl|bash|docker|export|hf|lightly-train|make|pip|python3?|spt|torchrun) ", re.MULTILINE)
NUMBERS = re.compile(r"(?=.*\d)[-+±\d.,:()/%x ^e]+( to [-+±\d.,:()/%x ^e]+)?")
FILE = re.compile(r"[\w/.-]+\.md")
HYPHEN = re.compile(r"(\d[\d.]*e-\d+|\d{4}-\d\d-\d\d|\b[A-Za-z]+-\d+\b|(?<![\w-])--[a-z][\w-]*)")
IN_A_WORD = re.compile(
    r"(?<=[\w)\]}][/._=,:(|-])(?!(?<=\d\.)\d)(?!(?<=\de-)\d)(?=[\w\[{\"])"  # not within 3.0e-4
    r"|(?<=[(\[{/])(?=\w)"
)
ROOM = {"cell": 24, "text": 40, "title": 18}  # characters of code that stand on one line whatever the screen


STRAIGHT = str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''")


def _strings_as_python_has_them(app: Sphinx, tree: nodes.document) -> None:
    """Quotation marks on the page of docstrings are those of Python's strings, which are copied from there."""
    if app.env.docname == "api":
        for text in list(tree.findall(nodes.Text)):
            text.parent.replace(text, nodes.Text(text.translate(STRAIGHT)))


def _where_lines_break(app: Sphinx, tree: nodes.document) -> None:
    """Tell site.css what a block of commands is, what cells are numbers, and where text has 1e-9, dates or --option."""
    for block in tree.findall(nodes.literal_block):
        if block.get("language") in ("default", "none", "text", "bash") and TYPED.search(block.astext()):
            block["language"] = "commands"
    for cell in tree.findall(nodes.entry):
        if len(cell.astext()) <= 24 and NUMBERS.fullmatch(cell.astext()):
            cell["classes"].append("number")
        for literal in cell.findall(nodes.literal):
            literal["classes"].append("cell")
    for literal in tree.findall(nodes.literal):
        place = (
            "title" if isinstance(literal.parent, nodes.title) else "cell" if "cell" in literal["classes"] else "text"
        )
        _break_words(literal, ROOM[place])
    for text in list(tree.findall(nodes.Text)):
        if text.startswith(" -- "):  # behind the name of an argument
            text.parent.replace(text, nodes.Text(f" \u2013 {text[4:]}"))
            continue
        parts = HYPHEN.split(text)
        if len(parts) > 1 and not isinstance(text.parent, nodes.literal | nodes.FixedTextElement | nodes.raw):
            kinds = [
                nodes.inline("", part, classes=["number"]) if at % 2 else nodes.Text(part)
                for at, part in enumerate(parts)
            ]
            text.parent.replace(text, kinds)


def _break_words(literal: nodes.literal, room: int) -> None:
    """Break no line within a word of code, and a word that is longer than `room` behind its signs alone."""
    literal["classes"].append("unbroken")
    lines = [""]
    for token in re.split(r"(\s+)", literal.astext()):
        for at, piece in enumerate(_pieces(token, room)):
            lines[-1:] = [lines[-1], piece] if at else [lines[-1] + piece]
    literal.clear()
    for at, line in enumerate(lines):
        literal.extend([nodes.raw("", "<wbr>", format="html"), nodes.Text(line)] if at else [nodes.Text(line)])


def _pieces(word: str, room: int) -> list[str]:
    """The longest pieces of at most `room` characters, as far as the word has signs to break behind."""
    pieces = [""]
    for part in IN_A_WORD.split(word):
        if pieces[-1] and len(pieces[-1]) + len(part) > room:
            pieces.append(part)
        else:
            pieces[-1] += part
    return pieces


def _an_argument_a_line(
    app: Sphinx, what: str, name: str, documented: object, options: object, lines: list[str]
) -> None:
    """Short arguments share a line of a docstring (`n: how many. out: the file.`), and have one each on the page."""
    for section in ("Args:", "Attributes:"):
        if not callable(documented) or section not in lines:
            continue
        try:
            names = inspect.signature(documented).parameters
        except ValueError:  # of an exception without a signature of its own
            continue
        first = lines.index(section) + 1
        after = next((at for at in range(first, len(lines)) if not lines[at]), len(lines))
        indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
        behind = re.compile(rf"(?<=[.;]) (?=(?:{'|'.join(names)})(?:, \w+)*: )")
        lines[first:after] = behind.sub(f"\n{indent}", "\n".join(lines[first:after])).split("\n")


def _defaults_that_are_made(
    app: Sphinx, what: str, name: str, documented: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """What a dataclass makes anew for each object is `<factory>` there, for which Sphinx shows all of it as it came."""
    return signature and signature.replace("<factory>", "..."), returns


def _pages_by_their_titles(app: Sphinx, tree: nodes.document, page: str) -> None:
    """A link that is named by a file (`data.md`), as in the repository, is named by the page's title on the site."""
    for reference in tree.findall(nodes.reference):
        if reference.get("internal") and FILE.fullmatch(reference.astext()):
            target = reference["refuri"].partition("#")[0].removesuffix(".html")
            title = app.env.titles[posixpath.normpath(posixpath.join(posixpath.dirname(page), target or page))]
            reference.clear()
            reference += nodes.inline("", title.astext().partition(":")[0])


def _search_without_logs(app: Sphinx, env: BuildEnvironment) -> None:
    """The search leaves out the log, the changelog and dated measurements, which have every word and would stand before
    the page that explains it. The navigation has them."""
    for page in env.all_docs:
        if page in ("changelog", "experiments") or page.startswith("benchmarks/"):
            env.metadata[page]["nosearch"] = True


def setup(app: Sphinx) -> None:
    """Sphinx calls it when it starts."""
    app.connect("autodoc-process-signature", _defaults_that_are_made)
    app.connect("autodoc-process-docstring", _an_argument_a_line, priority=400)  # napoleon has 500
    app.connect("source-read", _within_the_site)
    app.connect("doctree-read", _strings_as_python_has_them)
    app.connect("doctree-read", _where_lines_break)
    app.connect("doctree-resolved", _pages_by_their_titles)
    app.connect("env-updated", _search_without_logs)
    app.add_lexer("commands", Commands)


html_theme = "furo"
html_title = f"barlowctl {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = html_domain_indices = False  # the reference is one page, and the search finds its names
html_show_sphinx = False
html_show_copyright = False
