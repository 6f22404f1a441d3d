"""The site: `make docs`. The sources are the pages of the checkout, which GitHub shows as well."""

from tsgb import __version__

project = "tsgb"
author = "the tsgb authors"
release = __version__

extensions = [
    "myst_nb",  # Markdown, and notebooks as they were stored
    "sphinx_external_toc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # docstrings have sections in Google's style
    "sphinx.ext.viewcode",
]
# The root of the checkout is the source, so that a page may link to ../README.md as on GitHub.
include_patterns = ["*.md", "docs/**"]
exclude_patterns = ["docs/_templates"]
external_toc_path = "docs/_toc.yml"

myst_heading_anchors = 4  # those that GitHub gives
myst_enable_extensions = ["html_image"]
nb_execution_mode = "off"  # tests/test_notebooks.py runs them

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # fields of dataclasses are listed once

html_theme = "furo"
html_title = f"tsgb {release}"
html_show_sphinx = html_show_copyright = False
html_show_search_summary = False  # it reads other pages, which browsers refuse to local files
html_additional_pages = {"index": "first.html"}  # leads to docs/index.html
templates_path = ["_templates"]
