"""External links: pages draw them from docs/links.toml, and hold none of their own."""

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
OTHERS = [DOCS.parent / name for name in ("README.md", "CHANGELOG.md", "benchmarks/RESULTS.md")]
LIST = tomllib.loads((DOCS / "links.toml").read_text())


def prose(text):
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^( *)```.*?^\1```", "", text, flags=re.S | re.M))


def bare(text):
    """Addresses that stand in a page itself."""
    return re.findall(r"https?://[^\s)>\"]+", prose(text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_holds_no_address_and_names_those_of_the_list(page):
    text = page.read_text()
    assert bare(text) == [], "put it into docs/links.toml, and name it as [words][name]"
    named = set(re.findall(r"\[[^\]]+\]\[([\w-]+)\]", prose(text)))
    assert named <= set(LIST["links"])
    schemes = set(re.findall(r"\]\((\w+):[^)]+\)", prose(text)))
    assert schemes <= set(LIST["schemes"])


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.name)
def test_a_file_that_is_read_without_the_site_holds_addresses_of_the_list_alone(page):
    known = {*LIST["links"].values()}
    starts = tuple(address.replace("{{path}}", "") for address in LIST["schemes"].values())
    new = [each for each in bare(page.read_text()) if each not in known]
    assert [each for each in new if not each.startswith(starts)] == []


def test_every_link_of_the_list_is_used():
    text = "".join(prose(page.read_text()) for page in PAGES)
    others = "".join(page.read_text() for page in OTHERS)
    unused = [n for n, place in LIST["links"].items() if f"][{n}]" not in text]
    assert [name for name in unused if LIST["links"][name] not in others] == []
    assert all(f"({scheme}:" in text for scheme in LIST["schemes"])


def test_a_bare_address_is_noticed_and_one_in_code_is_not():
    assert bare("see https://example.org/a (b)") == ["https://example.org/a"]
    assert bare("see `https://example.org/a`\n```bash\ncurl https://x.org\n```\n") == []
