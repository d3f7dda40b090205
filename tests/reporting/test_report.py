"""What a report takes, refuses, says and writes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError, ResultError
from whitebox_probe.reporting import cited, page, words
from whitebox_probe.reporting.material import gathered
from whitebox_probe.reporting.section import Part, Prose, Section, sections
from whitebox_probe.results.forms import NULL_SEPARATOR

ROOT = Path(__file__).parents[2]


def charts_of(path):
    text = Path(path).read_text(encoding="utf-8")
    return json.loads(re.search(r'id="charts">(.*?)</script>', text, re.DOTALL)[1])


def chart(path, name):
    return next(each for each in charts_of(path) if each["name"] == name)


def test_the_same_inputs_give_the_same_bytes(full, results, verdicts, a_view, tmp_path):
    import synthetic

    again = wp.report(
        [*results, synthetic.similarity("crate", "vit"), a_view],
        tmp_path / "b.html",
        audit=verdicts,
    )
    assert again.read_bytes() == full.read_bytes()
    assert len(full.read_bytes()) < 4_000_000


def test_every_section_has_its_place(full):
    text = full.read_text(encoding="utf-8")
    titles = re.findall(r'<h2 id="part-\w+">(.*?)</h2>', text)
    assert titles == [
        "Models",
        "Verdicts",
        "Layer by layer",
        "Changes",
        "Paired differences",
        "Heads&#39; subspaces",
        "Similarity of layers",
        "Samples from inside",
        "Provenance",
        "Numbers",
        "How to cite",
    ]


def test_a_section_is_one_file(monkeypatch, results, tmp_path):
    import whitebox_probe.reporting.sections as folder

    new = tmp_path / "sections"
    new.mkdir()
    (new / "weather.py").write_text(
        "from whitebox_probe.reporting.section import Part, Prose, Section\n"
        "SECTION = Section(order=15, make=lambda m: Part('Weather', [Prose('It rains.')]))\n"
    )
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(new)])
    text = wp.report(results[0], tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.index(">Weather</h2>") > text.index(">Models</h2>")
    assert "<p>It rains.</p>" in text


def test_each_section_says_where_it_stands_and_what_it_makes():
    found = sections()
    assert [each.order for each in found.values()] == sorted(each.order for each in found.values())
    assert all(isinstance(each, Section) and each.make.__module__ for each in found.values())


def test_raw_nats_of_models_of_different_sizes_are_nowhere(made, tmp_path):
    two = [made("a"), made("b", tokens=20, dim=32)]
    path = wp.report(two, tmp_path / "a.html")
    sheets = chart(path, "curves")["sheets"]
    assert sheets["coding_rate"]["allow"]["form"] == ["per_token", "per_entry"]
    assert sheets["l0"]["allow"]["form"] == ["raw"]
    text = path.read_text(encoding="utf-8")
    assert "[nats]" not in text
    assert "coding_rate [nats / token]" in text
    assert "never as raw nats beside each other" in text
    same = wp.report([made("a"), made("b")], tmp_path / "b.html")
    assert chart(same, "curves")["sheets"]["coding_rate"]["allow"]["form"][0] == "raw"
    one = wp.report(two[1], tmp_path / "c.html")
    assert "coding_rate [nats]" in one.read_text(encoding="utf-8")


def test_normalised_values_are_those_of_the_package(made, tmp_path):
    from whitebox_probe.results.forms import normal_form

    two = [made("a"), made("b", tokens=20, dim=32)]
    sheet = chart(wp.report(two, tmp_path / "a.html"), "curves")["sheets"]["coding_rate"]
    rows = [dict(zip(sheet["fields"], row, strict=True)) for row in sheet["rows"]]
    for form in ("per_token", "per_entry"):
        shown = [(r["mean"] - r[f"low_{form}"]) / r[f"size_{form}"] for r in rows]
        by = [normal_form(r, "coding_rate", form)(r.curve("coding_rate")) for r in two]
        assert shown == pytest.approx(pd.concat(by)["mean"].tolist(), rel=1e-6)


def test_a_null_stands_with_its_model_and_its_lack_is_said(results, made, tmp_path):
    with_null = chart(wp.report(results, tmp_path / "a.html"), "curves")["sheets"]["coding_rate"]
    at = with_null["fields"].index("null")
    assert {row[at] for row in with_null["rows"]} == {"", "gaussian null"}
    assert "null_share" in with_null["allow"]["form"]
    path = wp.report(made("a"), tmp_path / "b.html")
    assert "No null was measured" in path.read_text(encoding="utf-8")
    apart = replace(made("a"), run=replace(made("a").run, model="a | random", null_of="a"))
    apart = replace(apart, frame=apart.frame.assign(model="a | random"))
    sheet = chart(wp.report([made("a"), apart], tmp_path / "c.html"), "curves")["sheets"]["l0"]
    assert {row[sheet["fields"].index("null")] for row in sheet["rows"]} == {"", "random null"}
    with pytest.raises(ResultError, match="belongs to none of the results"):
        wp.report([made("b"), apart], tmp_path / "d.html")


def test_two_nulls_of_one_name_are_refused_and_only_what_stands_twice_is_named(made, tmp_path):
    null = made(f"a{NULL_SEPARATOR}gaussian", shift=1.0)
    with pytest.raises(ResultError, match="two nulls of a are called 'a . gaussian'"):
        wp.report([made("a"), null, replace(null)], tmp_path / "a.html")
    with pytest.raises(ResultError, match=r"of the same model \(a\):"):
        wp.report([made("a"), made("b"), made("a")], tmp_path / "a.html")


def test_a_measure_that_a_model_lacks_is_said(made, tmp_path):
    two = [made("a", eps=[0.1, 0.5]), made("b")]
    sheets = chart(wp.report(two, tmp_path / "a.html"), "curves")["sheets"]
    assert sheets["coding_rate (eps=0.5)"]["note"].startswith("Not measured so: b.")
    assert "Not measured" not in sheets["coding_rate (eps=0.1)"]["note"]


def test_differences_that_cannot_be_taken_are_said(made, tmp_path):
    two = [made("a", eps=0.1), made("b", eps=0.5)]
    text = wp.report(two, tmp_path / "a.html").read_text(encoding="utf-8")
    assert "They could not be taken: " in text
    many = [made(f"model {n}") for n in "abcdefg"]
    text = wp.report(many, tmp_path / "b.html").read_text(encoding="utf-8")
    assert "paired differences of 7 models are not shown" in text


def test_other_data_or_twice_one_model_is_refused(made, tmp_path):
    other = {"name": "texts", "fingerprint": "xyz", "limit": None}
    with pytest.raises(ResultError, match="differ in data"):
        wp.report([made("a"), made("b", data=other)], tmp_path / "a.html")
    with pytest.raises(ResultError, match="of the same model"):
        wp.report([made("a"), made("a")], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_one_audit_or_comparison_twice_is_refused(verdicts, made, tmp_path):
    both = wp.compare([made("a"), made("b")])
    for thing, kind in ((verdicts, "audit"), (both, "comparison")):
        folder = thing.save(tmp_path / kind)
        with pytest.raises(ResultError, match=f"the same {kind} is given twice"):
            wp.report([folder, folder], tmp_path / "a.html")
        with pytest.raises(ResultError, match=f"the same {kind} is given twice"):
            wp.report([thing, thing], tmp_path / "a.html")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "nothing was given"),
        (3, "it is no result"),
        ("/nowhere", "there is no such folder"),
        ([["a"], None], "there is no such folder"),
    ],
)
def test_what_cannot_be_reported_is_told(given, why, tmp_path):
    with pytest.raises(ProbeError, match=why):
        wp.report(given, tmp_path / "a.html")


def test_a_report_is_not_written_over_unasked(made, tmp_path):
    path = wp.report(made("a"), tmp_path / "a.html")
    with pytest.raises(ProbeError, match="a file is there already"):
        wp.report(made("b"), path)
    assert "<td>b" not in path.read_text(encoding="utf-8")
    wp.report(made("b"), path, overwrite=True)
    assert ">b</th>" in path.read_text(encoding="utf-8")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ProbeError, match="is a folder: a report is a file"):
        wp.report(made("a"), tmp_path / "folder.html", overwrite=True)
    with pytest.raises(ProbeError, match=r"End it in \.html or \.md"):
        wp.report(made("a"), tmp_path / "a.txt")
    with pytest.raises(ProbeError, match="Did you mean 'html'"):
        wp.report(made("a"), tmp_path / "a.txt", format="htm")


def test_a_page_that_is_too_large_is_refused_and_nothing_is_left(made, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST", 900_000)
    with pytest.raises(ProbeError, match="most of it is of 'curves'"):
        wp.report(made("a"), tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_read_by_what_they_hold(results, verdicts, made, tmp_path):
    results[0].save(tmp_path / "crate")
    results[1].save(tmp_path / "vit")
    verdicts.save(tmp_path / "audit")
    wp.compare(results).save(tmp_path / "both")
    for n in (1, 7):
        made(f"epoch-0{n}", shift=float(n)).save(tmp_path / "steps" / f"epoch-0{n}")
    found = gathered([tmp_path / name for name in ("crate", "vit", "audit", "both")])
    assert [r.model for r in found.results] == ["crate", "vit"]
    assert (len(found.audits), len(found.comparisons)) == (1, 1)
    assert found.steps is None
    assert gathered(tmp_path / "steps").steps == [1, 7]
    with pytest.raises(ProbeError, match=r"it has none of: run\.json"):
        gathered(ROOT / "docs")


def test_an_audit_of_other_samples_or_weights_is_told(results, verdicts, tmp_path):
    data, name = dict(results[0].run.data), results[0].model
    weights = {name: {"checkpoint": {"sha256": "0" * 64}}}
    own = replace(verdicts, settings={"data": data, "models": {}})
    told = wp.report(results, tmp_path / "a.html", audit=own).read_text(encoding="utf-8")
    assert "other samples" not in told
    assert "other weights" not in told
    other = replace(verdicts, settings={"data": data | {"fingerprint": "x"}, "models": weights})
    held = replace(results[0].run, checkpoint={"name": name, "sha256": "1" * 64})
    mine = [replace(results[0], run=held), *results[1:]]
    told = wp.report(mine, tmp_path / "b.html", audit=other).read_text(encoding="utf-8")
    assert "The audit saw other samples than the results of" in told
    assert "has other weights than the result of that name" in told


def test_steps_are_told_by_names_or_given(made, tmp_path):
    names = ["run-step-1000", "run-step-20", "run-init"]
    series = [made(name, shift=float(i)) for i, name in enumerate(names)]
    path = wp.report(series, tmp_path / "a.html")
    sheet = chart(path, "training")["sheets"]["l0"]
    at = [sheet["fields"].index(name) for name in ("model", "step")]
    told = dict(tuple(row[i] for i in at) for row in sheet["rows"])
    assert told == {"run-init": 0.0, "run-step-20": 20.0, "run-step-1000": 1000.0}
    for apart in (["seed-0", "seed-1"], ["vit-8", "vit-16"], ["a-step-1", "b-step-2"]):
        assert gathered([made(name) for name in apart]).steps is None
    given = gathered([made("b"), made("a")], steps=[9, 3])
    assert ([r.model for r in given.results], given.steps) == (["a", "b"], [3, 9])
    with pytest.raises(ProbeError, match="1 steps are given for 2 results"):
        gathered([made("b"), made("a")], steps=[9, 9])


def test_a_comparison_alone_is_shown_without_what_it_does_not_know(results, tmp_path):
    path = wp.report(wp.compare(results), tmp_path / "a.html")
    sheets = chart(path, "curves")["sheets"]
    whole = chart(wp.report(results, tmp_path / "b.html"), "curves")["sheets"]
    assert "raw" not in sheets["coding_rate"]["allow"]["form"]
    told = [
        [row[sheet["fields"].index("told_per_token")] for row in sheet["rows"]]
        for sheet in (sheets["coding_rate"], whole["coding_rate"])
    ]
    assert told[0] == told[1]
    text = path.read_text(encoding="utf-8")
    assert "which checkpoints and data these are is not told" in text


def test_hidden_characters_are_written_out():
    assert words.visible("a\u202eb\x07\u200b\ufeffc\n") == "a\\u202eb\\u0007\\u200b\\ufeffc\n"
    assert len(words.name("x" * 300)) <= words.NAME
    alike = ["m" * 60 + "1" + "m" * 60, "m" * 60 + "2" + "m" * 60]
    assert len(set(words.names(alike).values())) == 2


def test_the_policy_names_the_scripts_that_are_there(full):
    import base64
    import hashlib

    text = full.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)[1]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    scripts = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_json_cannot_leave_its_element():
    told = page.embedded({"a": "</script><!--&\u2028", "b": [float("inf"), 1.5]})
    assert told == '{"a":"\\u003c/script\\u003e\\u003c!--\\u0026\\\\u2028","b":[null,1.5]}'
    assert json.loads(told)["a"] == "</script><!--&\\u2028"


def test_what_to_cite_is_what_the_citation_file_says():
    text = (ROOT / "CITATION.cff").read_text()
    told = cited.package()
    for key in (r"^title: (.*)$", r"^version: (.*)$", r"^date-released: .(\d+)", r"- name: (.*)$"):
        found = re.search(key, text, re.MULTILINE)
        assert f"{{{found[1]}}}" in told, key
    assert "2306.01129" in cited.measure("compression")
    assert cited.checkpoint("no-such") == ""


def test_markdown_is_for_a_pull_request(results, verdicts, tmp_path):
    path = wp.report(results, tmp_path / "a.md", audit=verdicts, title="a|b <b>")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("## a\\|b \\<b\\>\n")
    for head in (
        "### Changes",
        "### Paired differences",
        "### Verdicts",
        "### How to make it again",
    ):
        assert f"\n{head}\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (6,) for row in rows)
    assert "| coding_rate [nats] | crate: gaussian null |" in text
    assert "contradicted" in text


def test_a_part_may_be_empty_of_everything_but_words():
    part = Part("Empty", [Prose("nothing", "gap")])
    assert '<p class="gap">nothing</p>' in page.filled("t", "s", {"empty": part})


def test_a_name_of_several_lines_is_a_name(made, tmp_path):
    """The two of a pair were told apart by the end of a line."""
    odd = made("crate\nof\nthree lines")
    page = wp.report([odd, made("vit", shift=1.0)], tmp_path / "r.html")
    text = page.read_text(encoding="utf-8")
    assert "Paired differences" in text
    assert "vit − crate" in text
