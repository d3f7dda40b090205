"""What a notebook shows of each thing: one line, and a page that stands by itself."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe._core import html
from whitebox_probe._core.digits import number
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.results.compare import compare
from whitebox_probe.results.similarity import Similarity
from whitebox_probe.results.view import View

EVIL = """<script>alert('1')</script>"><img src=x onerror="alert(2)">"""
LONG = "vit_giant_patch14_reg4_dinov2.lvd142m-finetuned/at-resolution-518\n" * 4
VOID = {"br", "img", "line", "circle", "polygon", "polyline", "hr"}
ALLOWED = {
    "style", "div", "p", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "br", "details",
    "summary", "svg", "title", "line", "polygon", "polyline", "circle", "ul", "li", "img",
}  # fmt: skip


class Page(HTMLParser):
    """Tags in their order, checked that each is closed and none fetches or runs anything."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag in ALLOWED, tag
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name not in ("href", "xlink:href"), (tag, name)
            assert name != "src" or value.startswith("data:image/png;base64,"), (tag, value)
            assert "url(" not in (value or ""), (tag, value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def audit(*models):
    rows = []
    verdicts = ["supported", "not supported", "contradicted", "not applicable", "depends on eps"]
    for model in models:
        for i, verdict in enumerate(verdicts):
            value = np.nan if verdict == "not applicable" else -0.13
            rows.append(
                {
                    "model": model, "claim": f"claim_{i}", "text": EVIL, "unit": EVIL,
                    "value": value, "ci_low": value - 0.01, "ci_high": value + 0.01,
                    "samples": 40, "null": "permuted weights", "verdict": verdict,
                    "reason": EVIL, "sentence": EVIL,
                }
            )  # fmt: skip
    nothing = pd.DataFrame()
    return wp.Audit(pd.DataFrame(rows), nothing, nothing, nothing, Thresholds())


def view(name=EVIL, **more):
    random = np.random.default_rng(0)
    sites = {("z_out", layer): random.normal(size=(3, 5, 4)) for layer in (1, 2, 4)}
    return View(name, sites, **more)


def similarity(name):
    matrix = np.linspace(0, 1, 15).reshape(5, 3)
    return Similarity(matrix, matrix * np.nan, 2 * matrix, name, "other", 50)


def things(made, name):
    images = np.random.default_rng(0).uniform(size=(20, 8, 6, 3))
    yield made(name)
    yield made(name).run
    yield compare([made(name), made("other", shift=2.0)])
    yield audit(name, "other")
    yield similarity(name)
    yield view(name, images=images[:3])
    yield view(name, texts=((EVIL, "b"),) * 3)
    yield wp.wrap(small_crate(), name=name)


@pytest.mark.parametrize("name", ["crate", LONG, EVIL * 20])
def test_each_thing_is_one_short_line(made, name):
    for thing in things(made, name):
        assert len(repr(thing)) <= 150, repr(thing)
        assert "\n" not in repr(thing)


@pytest.mark.parametrize("name", ["crate", LONG, EVIL])
def test_each_page_stands_by_itself_and_runs_nothing(made, name):
    for thing in things(made, name):
        if not isinstance(thing, wp.Run):
            page = Page(thing._repr_html_())
            assert " ".join(name.split()) in page.text, type(thing)


def test_a_result_tells_first_and_last_layer_change_and_unit(made):
    result = made("crate")
    page = Page(result._repr_html_()).text
    row = result.changes().set_index("metric").loc["compression"]
    for value in (row["first"], row["last"]):
        assert number(value) in page
    assert "first layer last layer change unit over the layers" in page
    assert result._repr_html_().count("<svg") == len(result.changes())


def test_a_long_result_folds(made):
    text = made(eps=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])._repr_html_()
    head, _, rest = text.partition("<details>")
    assert head.count("<tr>") == 1 + html.SHOWN
    assert rest.count("<tr>") == 1 + 3
    assert "eps=0.7" in rest


def test_a_comparison_says_which_way_its_intervals_point(made):
    text = compare([made(), made("vit", shift=2.0)])._repr_html_()
    assert text.count("▲ higher") == 3
    assert "▼ lower" in compare([made(), made("vit", shift=-2.0)])._repr_html_()
    three = compare([made(), made("vit", shift=2.0), made("gpt", shift=1.0)])._repr_html_()
    assert three.count("<details>") == 3
    assert "<summary>gpt − vit</summary>" in three


def test_a_verdict_is_a_word_and_a_sign_and_its_reason_is_at_hand():
    text = audit("crate")._repr_html_()
    for word in ("✓ supported", "○ not supported", "✗ contradicted", "? depends on eps"):
        assert f">{word}</span>" in text
    assert "– not applicable" in text
    assert text.count(f'title="{html.escape(f"{EVIL} ({EVIL})")}"') == 5
    assert "1 supported · 1 not supported · 1 contradicted · 1 not applicable" in text


def test_white_words_can_be_read_on_every_colour_of_a_verdict():
    """Contrast of 4.5 to one: WCAG 2.2, 1.4.3."""
    for colour, _ in html._BADGES.values():
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5, colour
    for ground in ("#ffffff", "#111111", "#1e1e1e"):
        low, high = sorted((luminance(html.BLUE), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 3, ground


def luminance(colour):
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_a_view_shows_its_pictures_or_its_texts():
    images = np.random.default_rng(0).uniform(size=(3, 300, 200, 1))
    text = view(images=images)._repr_html_()
    assert text.count("<img") == 3
    assert len(text) < 100_000
    assert "3 × 5 × 4" in text
    assert "1–2, 4" in text
    assert "a b" in Page(view(texts=(("a", "b"),) * 3)._repr_html_()).text


def test_a_model_says_where_its_weights_came_from():
    page = Page(wp.load("crate-tiny-fmnist")._repr_html_()).text
    assert "8 layers, d=96, 4 heads of p=24" in page
    assert "licence MIT" in page
    assert re.search(r"sha256 [0-9a-f]{12}…", page)
    mine = Page(wp.wrap(small_crate())._repr_html_()).text
    assert "no file" in mine


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1e-9, 1e-9, 3e-9), "+1.0e-9 [+1.0e-9, +3.0e-9]"),
        ((1e-12, -0.2, 0.2), "0.00 [-0.20, +0.20]"),
        ((0.0, 0.0, 0.0), "0"),
        ((1234567.0, 1e6, 2e6), "+1.23e6 [+1.00e6, +2.00e6]"),
        ((12.0, 10.0, 14.0), "+12.0 [+10.0, +14.0]"),
    ],
)
def test_numbers_have_digits_that_say_something(values, text):
    value, low, high = values
    if text == "0":
        assert number(0.0, sign="+") == "0"
    else:
        assert number(value, sign="+", low=low, high=high) == text


def test_a_line_of_one_value_of_none_and_of_gaps_is_drawn():
    assert html.sparkline([]) == html.sparkline([np.nan]) == ""
    for values in ([1.0], [1.0, 1.0], [1.0, np.nan, 2.0], [0.1 + 0.2, 0.3]):
        Page(html.sparkline(values, zero=True, title=EVIL))
    assert "<polygon" in html.sparkline([1.0, 2.0], low=[0, 1], high=[2, 3])
