"""The documentation as a site: `make docs-site` builds it with Sphinx from these pages as they are (docs/index.md).

Nothing in what is built comes from another host: fonts are the system's, the search is a file beside the pages.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

import barlowctl  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "barlowctl"
author = "The barlowctl authors"
version = release = barlowctl.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# Pages are GitHub's Markdown: its anchors of headings, and links to files that are no pages offer these files.
myst_heading_anchors = 4
myst_linkify_fuzzy_links = False
nb_execution_mode = "off"  # tests execute the notebook; its outputs are kept in it
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # scripts that would come from another host

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
default_role = "code"
highlight_language = "text"  # a block without a name is what a terminal shows
nitpicky = False


def _within_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    """Pages link to files of the repository's root that are pages here too."""
    for name in ("CONTRIBUTING", "CHANGELOG"):
        source[0] = source[0].replace(f"](../{name}.md", f"]({name.lower()}.md")


def setup(app: Sphinx) -> None:
    """Sphinx calls it when it starts."""
    app.connect("source-read", _within_the_site)


html_theme = "furo"
html_title = f"barlowctl {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
