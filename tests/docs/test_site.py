"""The site: it builds without a warning, names all that is public, and asks for nothing outside."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import whitebox_probe as wp
from whitebox_probe.metrics import functional

pytest.importorskip("sphinx", minversion="9.0")
pytest.importorskip("myst_nb")
pytest.importorskip("furo")

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "use": "href"}
CHROMIUM = Path("/usr/bin/chromium")
PHONE = 390


class Loaded(HTMLParser):
    """What a page loads by itself: scripts, styles, pictures, icons."""

    def __init__(self):
        super().__init__()
        self.places = []

    def handle_starttag(self, tag, attrs):
        held = dict(attrs)
        if tag == "link" and held.get("rel") not in (
            "next",
            "prev",
            "index",
            "search",
            "canonical",
        ):
            self.places.append(held.get("href", ""))
        elif tag in LOADS:
            self.places.append(held.get(LOADS[tag], ""))


def outside(folder):
    """Addresses that some page or style sheet of a folder would fetch."""
    found = set()
    for page in folder.rglob("*.html"):
        reader = Loaded()
        reader.feed(page.read_text())
        found |= {place for place in reader.places if re.match(r"(https?:)?//", place)}
    for sheet in folder.rglob("*.css"):
        found |= set(
            re.findall(r"""(?:url\(|@import\s*)['"]?((?:https?:)?//[^'")]+)""", sheet.read_text())
        )
    return found


def names_of(inventory):
    """The Python objects of an inventory."""
    from sphinx.util.inventory import InventoryFile

    with inventory.open("rb") as file:
        found = InventoryFile.load(file, "", lambda base, page: page)
    return {name for role, objects in found.items() if role.startswith("py:") for name in objects}


def public():
    """Every public name of the package, as the site has it."""
    yield from (f"whitebox_probe.{name}" for name in wp.__all__)
    yield from (f"whitebox_probe.plots.{name}" for name in dir(wp.plots))
    yield from (f"whitebox_probe.metrics.functional.{name}" for name in dir(functional))
    yield from (
        f"whitebox_probe.metrics.{n}" for n in dir(wp.metrics) if n[0].isupper() and n != "Any"
    )


def faults_in_a_browser(folder, pages):
    """Requests that leave the folder, messages of errors, and pages wider than a phone."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": PHONE, "height": 800})
        tab.on("request", lambda each: found.append(each.url))
        tab.on("console", lambda each: found.append(each.text) if each.type == "error" else None)
        for page in pages:
            tab.goto((folder / page).as_uri())
            width = tab.evaluate("document.documentElement.scrollWidth")
            found += [f"{page} is {width} wide"] if width > PHONE else []
        browser.close()
    return [each for each in found if not each.startswith(("file:", "data:"))]


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_for_nothing_outside(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", "--keep-going", "-j", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    made = subprocess.run(
        [*command, str(DOCS), str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert outside(tmp_path) == set()
    assert set(public()) - names_of(tmp_path / "objects.inv") == set()
    pages = [*sorted(tmp_path.glob("*.html")), tmp_path / "measures" / "compression.html"]
    assert len(pages) > 20
    formulas = (tmp_path / "measures" / "compression.html").read_text()
    assert 'class="formula" role="img"' in formulas
    if CHROMIUM.is_file():
        pytest.importorskip("playwright")
        assert faults_in_a_browser(tmp_path, [page.relative_to(tmp_path) for page in pages]) == []


def test_what_a_page_loads_from_elsewhere_is_noticed(tmp_path):
    (tmp_path / "page.html").write_text('<script src="https://cdn.example/x.js"></script>')
    (tmp_path / "site.css").write_text(
        '@import "//fonts.example/a.css"; b {background: url(a.png)}'
    )
    assert outside(tmp_path) == {"https://cdn.example/x.js", "//fonts.example/a.css"}


def test_every_page_stands_in_the_tree():
    text = "\n".join(page.read_text() for page in DOCS.rglob("*.md"))
    trees = re.findall(r"```\{toctree\}\n(.*?)```", text, re.S)
    named = {re.sub(r".*<(.+)>", r"\1", line) for tree in trees for line in tree.splitlines()}
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.glob("*.md")}
    assert pages - named == {"index"}
