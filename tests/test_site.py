"""The documentation is one site: no warning, no page left out, nothing loaded from a network."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tsgb import _exports, metrics

REMOTE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["'](?:https?:)?//|<link\b[^>]*\bhref=["'](?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//|@import""",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as ``make docs`` builds it; broken links, anchors and pictures are errors."""
    folder = tmp_path_factory.mktemp("site")
    words = ("-W", "--keep-going", "-q", "-c", "docs", ".", str(folder))
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_part_of_the_site(site):
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        assert (site / page.relative_to(ROOT)).with_suffix(".html").is_file(), page


def test_the_first_page_leads_to_the_others(site):
    (there,) = re.findall(r"url=([^\"]+)", (site / "index.html").read_text())

    assert "Quick start" in (site / there).read_text()


def test_every_public_name_is_in_the_python_interface(site):
    pages = "".join(page.read_text() for page in (site / "docs" / "api").glob("*.html"))
    public = [
        f"{package}.{name}"
        for package, module in (("tsgb", _exports), ("tsgb.metrics", metrics))
        for name, value in vars(module).items()
        if not name.startswith("_") and value.__class__.__name__ != "module"
    ]

    assert len(public) > 30
    assert [name for name in public if f'id="{name}"' not in pages] == []


def test_pages_load_nothing_from_the_network(site):
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]

    assert len(files) > 50
    assert [path for path in files if REMOTE.search(path.read_text())] == []
