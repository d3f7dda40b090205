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


def test_every_link_of_the_list_is_used():
    text = "".join(prose(page.read_text()) for page in PAGES)
    assert {name for name in LIST["links"] if f"][{name}]" not in text} == set()
    assert all(f"({scheme}:" in text for scheme in LIST["schemes"])


def test_a_bare_address_is_noticed_and_one_in_code_is_not():
    assert bare("see https://example.org/a (b)") == ["https://example.org/a"]
    assert bare("see `https://example.org/a`\n```bash\ncurl https://x.org\n```\n") == []
