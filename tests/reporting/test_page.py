"""The page in headless Chromium: what it shows, and what it never does."""

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

import whitebox_probe as wp

CURVES = "chart-curves-0"


def charts(it):
    return it.page.evaluate("[...document.querySelectorAll('figure.chart')].map((f) => f.id)")


def of(it, name):
    return next(chart for chart in charts(it) if f"-{name}-" in chart)


def test_it_opens_without_a_word_on_the_console_and_asks_nothing_of_any_network(opened, full):
    it = opened(full)
    assert it.told == []
    assert it.asked == [Path(full).as_uri(), "data:,"] or it.asked == [Path(full).as_uri()]
    assert len(charts(it)) >= 5
    for chart in charts(it):
        assert "<path" in it.picture(chart), f"{chart} is empty"


def test_every_control_changes_its_picture(opened, full):
    it = opened(full)
    tried = 0
    for chart in charts(it):
        form = it.page.query_selector(f"#{chart}-controls")
        fields = form.query_selector_all("[data-param]") if form else []
        for field in fields:
            if field.is_disabled():
                continue
            kind, tag = field.get_attribute("type"), field.evaluate("(e) => e.tagName")
            if tag == "SELECT":
                values = field.evaluate(
                    "(e) => [...e.options].filter((o) => !o.disabled).map((o) => o.value)"
                )
                others = [v for v in values if v != field.input_value()]
                if not others:
                    continue
                before, after = it.change(chart, lambda f=field, v=others[0]: f.select_option(v))
                start = values[0]
                it.change(chart, lambda f=field, v=start: f.select_option(v))
            elif kind == "range":
                key = "ArrowLeft" if field.input_value() != "0" else "ArrowRight"
                before, after = it.change(chart, lambda f=field, k=key: f.press(k))
            else:
                before, after = it.change(chart, field.click)
                it.change(chart, field.click)
            assert before != after, f"{chart}: {field.get_attribute('data-param')} changes nothing"
            tried += 1
    assert tried > 12
    assert it.told == []


def test_the_keyboard_reaches_and_changes_a_chart(opened, full):
    it = opened(full)
    chart = of(it, "curves")
    it.page.focus(f"#{chart}-controls select")
    before, after = it.change(chart, lambda: it.page.keyboard.press("ArrowDown"))
    assert before != after
    it.page.keyboard.press("Tab")
    named = it.page.evaluate("document.activeElement.dataset.param")
    assert named == "form"
    outline = it.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_what_is_shown_on_hover_is_what_the_table_says(opened, full, results):
    it = opened(full)
    chart = of(it, "curves")
    box = it.page.query_selector(f"#{chart}-view svg").bounding_box()
    points = it.page.query_selector_all(f"#{chart}-view .mark-symbol.layer_3_marks path")
    assert len(points) == 12  # two models and their nulls, three layers
    it.page.query_selector(f"#{chart}").scroll_into_view_if_needed()
    seen = set()
    for point in points:
        at = point.bounding_box()
        it.page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
        it.page.wait_for_selector("#tooltip.visible")
        keys = it.page.eval_on_selector_all("#tooltip .key", "(e) => e.map((k) => k.textContent)")
        values = it.page.eval_on_selector_all(
            "#tooltip .value", "(e) => e.map((k) => k.textContent)"
        )
        seen.add(tuple(values[:3]))
        assert [k.rstrip(":") for k in keys] == ["model", "layer", "value", "count"]
    it.page.query_selector(f"#{chart} details").evaluate("(e) => (e.open = true)")
    told = {
        tuple(row)[:3]
        for row in it.page.eval_on_selector_all(
            f"#{chart}-table tr", "(e) => e.map((r) => [...r.cells].map((c) => c.textContent))"
        )
    }
    assert box is not None
    assert seen <= told
    assert len(seen) >= 6
    from whitebox_probe._core.digits import number

    row = results[0].curve("coding_rate").iloc[1]
    assert ("crate", "2", number(row["mean"], low=row["ci_low"], high=row["ci_high"])) in told


def test_the_buttons_save_the_tables_to_the_last_digit(opened, full, results, verdicts):
    it = opened(full)

    def saved(button):
        with it.page.expect_download() as waiting:
            it.page.click(button)
        return Path(waiting.value.path()).read_bytes(), waiting.value.suggested_filename

    whole, name = saved("text=Save all numbers of the results (CSV)")
    frame = pd.concat([r.frame for r in results], ignore_index=True)
    assert name == "results.csv"
    assert whole.decode() == frame.to_csv(index=False, lineterminator="\n")
    read = list(csv.DictReader(io.StringIO(whole.decode())))
    assert [float(row["mean"]) for row in read] == frame["mean"].tolist()
    whole, _ = saved("text=Save the audit's verdicts (CSV)")
    assert whole.decode() == verdicts.frame.to_csv(index=False, lineterminator="\n")
    whole, name = saved(f"#{of(it, 'curves')} [data-figure=svg]")
    assert name == "curves.svg"
    assert whole.startswith(b"<svg")
    whole, name = saved(f"#{of(it, 'curves')} [data-figure=png]")
    assert name == "curves.png"
    assert whole.startswith(b"\x89PNG")
    assert it.told == []


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_axe_finds_no_serious_fault(opened, full, scheme, width):
    axe = pytest.importorskip("axe_core_python", reason="axe is not installed")
    script = next(Path(axe.__file__).parent.rglob("axe.min.js")).read_text(encoding="utf-8")
    it = opened(full, width=width, scheme=scheme)
    it.page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    it.page.evaluate(script)
    found = it.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    grave = [
        f"{v['id']}: {v['help']} {json.dumps([n['html'][:200] for n in v['nodes'][:3]])}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical", "moderate")
    ]
    assert grave == []


def test_a_phone_needs_no_sideways_scrolling(opened, full):
    it = opened(full, width=390)
    assert it.page.evaluate("document.documentElement.scrollWidth") <= 390
    for chart in charts(it):
        wide = it.page.query_selector(f"#{chart}-view svg").bounding_box()["width"]
        assert wide <= 390, chart


def test_dark_pages_have_dark_charts_and_change_with_the_system(opened, full):
    it = opened(full, scheme="dark")
    chart = of(it, "curves")
    assert "rgb(23, 27, 33)" in it.picture(chart)
    it.page.emulate_media(color_scheme="light")
    it.page.wait_for_timeout(200)
    assert "rgb(255, 255, 255)" in it.picture(chart)
    it.page.emulate_media(color_scheme="dark")
    it.page.wait_for_timeout(200)
    it.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert "rgb(255, 255, 255)" in it.picture(chart)  # paper is white
    folds = it.page.evaluate("document.querySelectorAll('details.printed:not([open])').length")
    assert folds == 0


def test_hostile_names_are_text_everywhere(opened, made, tmp_path):
    evil = "<script>alert(1)</script>"
    names = [
        evil,
        "<img src=x onerror=alert(2)>",
        "</script><!-- \u202etxt.exe\u2028'\"`${alert(3)}",
    ]
    few = [
        made(name, data={"name": evil, "fingerprint": "abc", "limit": None}, shift=float(i))
        for i, name in enumerate(names)
    ]
    path = wp.report(few, tmp_path / "evil.html", title=f"{evil} & co")
    text = path.read_text(encoding="utf-8")
    assert evil not in text
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert "\u2028" not in text
    it = opened(path, width=390)
    assert it.told == []
    assert it.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert it.page.title() == f"{evil} & co"
    chart = of(it, "curves")
    labels = it.page.eval_on_selector_all(
        f"#{chart}-controls .each label", "(e) => e.map((l) => l.textContent)"
    )
    assert labels[:2] == [evil, "<img src=x onerror=alert(2)>"]
    assert "\\u202e" in labels[2]
    it.page.query_selector(f"#{chart}").scroll_into_view_if_needed()
    points = it.page.query_selector_all(f"#{chart}-view .mark-symbol.layer_3_marks path")
    assert len(points) == 9
    for point in points[::3]:
        at = point.bounding_box()
        it.page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
        it.page.wait_for_selector("#tooltip.visible")
        assert it.page.query_selector("#tooltip img, #tooltip script") is None
    for field in it.page.query_selector_all(f"#{chart}-controls [data-kind=several]")[:2]:
        before, after = it.change(chart, field.click)
        assert before != after
    assert it.told == []


def test_no_model_at_all_is_said_and_not_drawn(opened, full):
    it = opened(full)
    chart = of(it, "curves")
    for field in it.page.query_selector_all(f"#{chart}-controls [data-kind=several]"):
        it.change(chart, field.click)
    assert it.page.inner_text(f"#{chart}-note") == "No model is ticked."
    assert not it.page.is_visible(f"#{chart}-view")
    assert it.told == []
