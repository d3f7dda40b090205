"""What is saved is read again as it was, or not at all; equality, and the faces in print."""

import copy
import errno
import itertools
import json
import os
import pickle
import shutil
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from whitebox_probe._core import io
from whitebox_probe._core.errors import ResultError
from whitebox_probe.auditing import verdicts
from whitebox_probe.results import folder as module
from whitebox_probe.results import held, kinds, reading
from whitebox_probe.results.compare import Comparison, compare
from whitebox_probe.results.result import Result
from whitebox_probe.results.similarity import Similarity
from whitebox_probe.results.view import View


class Killed(BaseException):
    """What no `except Exception` catches, as a kill."""


def steps_of_a_save(monkeypatch, stop_at):
    """Let every write, move and removal count, and raise at one of them, before or after it."""
    count = [0]

    def counted(owner, name):
        real = getattr(owner, name)

        def step(*args, **kwargs):
            for after in (False, True):
                if count[0] == stop_at:
                    count[0] += 1
                    raise Killed
                count[0] += 1
                if not after:
                    out = real(*args, **kwargs)
            return out

        monkeypatch.setattr(owner, name, step)

    for owner, name in (
        (pd.DataFrame, "to_csv"),
        (pd.DataFrame, "to_parquet"),
        (np, "savez_compressed"),
        (Path, "replace"),
        (Path, "rename"),
        (Path, "write_text"),
    ):
        counted(owner, name)
    return count


def test_a_save_cut_off_anywhere_never_loads_as_a_mixture(made, tmp_path):
    old, new = made(), made(shift=5.0, count=7)
    outcomes = []
    for stop_at in range(200):
        folder = tmp_path / str(stop_at)
        old.save(folder)
        with pytest.MonkeyPatch.context() as patch:
            steps_of_a_save(patch, stop_at)
            try:
                new.save(folder)
            except Killed:
                pass
            else:
                break
        found = Result.load(folder)
        assert found in [old, new]
        outcomes.append("old" if found == old else "new")
        hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        assert hidden == []
    assert stop_at > 20
    assert outcomes == sorted(outcomes, key=["old", "new"].index)
    assert set(outcomes) == {"old", "new"}


def test_what_is_saved_as_one_is_cut_off_as_one(made, tmp_path):
    """As an audit is, with its results and its figure."""
    sides = {
        "old": [made(), made(model="vit", count=20)],
        "new": [made(shift=5.0), made(model="vit", shift=6.0, count=20)],
    }
    both = {side: compare(results) for side, results in sides.items()}

    def save(side, folder):
        with module.saved_as_one(folder) as new:
            (new / "figure.svg").write_text(side)
            for result in sides[side]:
                result.save(new / "results" / result.model)
            both[side].save(new)

    def side_of(folder, *, below_first):
        """The sides of all that is there; what is below may be read by itself, before the rest."""
        names = [result.model for result in sides["old"]]
        results = [lambda n=n: Result.load(folder / "results" / n) for n in names]
        whole = [lambda: Comparison.load(folder)]
        found = [read() for read in ([*results, *whole] if below_first else [*whole, *results])]
        told = {side: [*results, both[side]] for side, results in sides.items()}
        wanted = {k: v if below_first else [v[-1], *v[:-1]] for k, v in told.items()}
        side = next(k for k, v in wanted.items() if v == found)
        assert (folder / "figure.svg").read_text() == side
        return side

    save("old", tmp_path / "old")
    outcomes = []
    for stop_at in range(200):
        folder = shutil.copytree(tmp_path / "old", tmp_path / str(stop_at))
        with pytest.MonkeyPatch.context() as patch:
            steps_of_a_save(patch, stop_at)
            try:
                save("new", folder)
            except Killed:
                pass
            else:
                break
        outcomes.append(side_of(folder, below_first=bool(stop_at % 2)))
        assert [path.name for path in folder.rglob(".*")] == []
    assert stop_at > 60
    assert outcomes == sorted(outcomes, key=["old", "new"].index)
    assert set(outcomes) == {"old", "new"}


@pytest.mark.parametrize("place", ["results", "figure.svg", "results/a/run.json"])
def test_what_is_in_the_way_of_a_part_is_told_before_anything_is_moved(place, made, tmp_path):
    there = tmp_path / "out" / place
    if place == "results":
        there.parent.mkdir()
        there.write_text("mine")
    else:
        there.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))

    def save():
        with module.saved_as_one(tmp_path / "out") as new:
            (new / "figure.svg").write_text("new")
            made().save(new / "results" / "a")

    with pytest.raises(ResultError, match=f"{place} is .* and in the way"):
        save()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_kill_that_leaves_no_time_to_tidy_is_seen_too(made, tmp_path):
    old, new = made().save(tmp_path / "old"), made(shift=5.0).save(tmp_path / "new")
    for name in ("table.parquet", "samples.parquet"):
        mixed = made().save(tmp_path / f"mixed-{name}")
        (mixed / name).write_bytes((new / name).read_bytes())
        with pytest.raises(ResultError, match=rf"not whole: {name} is not the file that run\.json"):
            Result.load(mixed)
    assert Result.load(old) == made()


def test_a_missing_file_or_a_run_that_is_no_json_is_told_in_one_line(made, tmp_path):
    folder = made().save(tmp_path / "a")
    (folder / "matrices.npz").unlink()
    with pytest.raises(ResultError, match=r"cannot be read: .*matrices\.npz"):
        Result.load(folder)
    folder = made().save(tmp_path / "b")
    (folder / "run.json").write_text("{")
    with pytest.raises(ResultError, match="cannot be read") as told:
        Result.load(folder)
    assert "\n" not in str(told.value)


def test_a_table_for_other_programs_may_be_edited(made, tmp_path):
    folder = made().save(tmp_path)
    (folder / "table.csv").write_text("edited")
    assert Result.load(folder) == made()


def test_results_are_equal_by_content(made):
    assert made() == made()
    assert made() == replace(made(), run=replace(made().run, seconds=3.0, created="later"))
    assert made() != made(shift=1.0)
    assert made() != made(preprocess={"size": 32})
    assert made() != replace(made(), matrices={})
    assert made() != "a result"
    with pytest.raises(TypeError, match=r"compared by content and has no hash"):
        {made()}


def test_a_comparison_is_read_as_it_was_saved(made, tmp_path):
    pair = [made(eps=[0.1, 0.5]), made("vit", family="timm_vit", basis="qkv:k", eps=[0.1, 0.5])]
    comparison = compare(pair)
    again = Comparison.load(comparison.save(tmp_path))
    pd.testing.assert_frame_equal(again.frame, comparison.frame, check_exact=True)
    pd.testing.assert_frame_equal(again.differences, comparison.differences, check_exact=True)
    assert again == comparison
    assert again.notes == comparison.notes != ()
    assert comparison != compare([made(), made("b")])
    with pytest.raises(TypeError, match="has no hash"):
        hash(comparison)
    (tmp_path / "differences.csv").write_text("first,second\n")
    with pytest.raises(ResultError, match=r"comparison .* is not whole: differences\.csv"):
        Comparison.load(tmp_path)
    with pytest.raises(ResultError, match=r"holds no comparison: .*no such folder"):
        Comparison.load(tmp_path / "none")


def similar():
    random = np.random.default_rng(0)
    arrays = [random.normal(size=(2, 3)) for _ in range(3)]
    arrays[0][0, 1] = np.nan
    return Similarity(*arrays, first="NA", second="null", count=9)


def test_a_similarity_is_read_as_it_was_saved(tmp_path):
    found = similar()
    again = Similarity.load(found.save(tmp_path))
    assert again == found
    np.testing.assert_array_equal(again.cka, found.cka)
    assert (again.first, again.second, again.count) == ("NA", "null", 9)
    assert found != replace(found, count=8)
    assert found != replace(found, cka=found.cka + 1)
    with pytest.raises(TypeError, match="has no hash"):
        hash(found)
    text = (tmp_path / "similarity.csv").read_text().splitlines()
    (tmp_path / "similarity.csv").write_text("\n".join(text[:-1]) + "\n")
    with pytest.raises(ResultError, match=r"is not whole: similarity\.csv"):
        Similarity.load(tmp_path)
    (tmp_path / "similarity.json").unlink()  # as of an older version
    with pytest.raises(ResultError, match="holds no similarity: not every pair"):
        Similarity.load(tmp_path)


def test_a_similarity_of_an_older_version_may_be_replaced_and_no_other_table(tmp_path):
    found = similar()
    found.save(tmp_path)
    (tmp_path / "similarity.json").unlink()
    found.save(tmp_path)
    assert Similarity.load(tmp_path) == found
    (tmp_path / "similarity.json").unlink()
    (tmp_path / "similarity.csv").write_text("mine\n1\n")
    with pytest.raises(ResultError, match="similarity.csv would be replaced"):
        found.save(tmp_path)
    assert (tmp_path / "similarity.csv").read_text() == "mine\n1\n"


def test_a_table_with_anything_of_a_users_own_is_replaced_by_nothing(made, tmp_path):
    both = compare([made(), made(model="vit")])
    edits = {
        "a column": lambda table: table.assign(mine="a"),
        "a column in place of one": lambda table: table.rename(columns={"count": "mine"}),
        "another order": lambda table: table[table.columns[::-1]],
        "a word": lambda table: table.astype({"count": object}).replace({"count": {6: "six"}}),
    }
    for thing, seal in ((both, "comparison.json"), (made(), "run.json")):
        folder = thing.save(tmp_path / seal)
        (folder / seal).unlink()
        for path, edit in itertools.product(list(folder.glob("*.csv")), edits.values()):
            whole = path.read_bytes()
            edit(pd.read_csv(path)).to_csv(path, index=False)
            before = files_in(folder)
            with pytest.raises(ResultError, match=f"{path.name}.* would be replaced"):
                thing.save(folder)
            assert files_in(folder) == before
            path.write_bytes(whole)
        thing.save(folder)  # as an older version left it, which had no seal
    similar().save(tmp_path / "s")
    (tmp_path / "s" / "similarity.json").unlink()
    similar().frame().assign(mine="a").to_csv(tmp_path / "s" / "similarity.csv", index=False)
    with pytest.raises(ResultError, match=r"similarity\.csv would be replaced"):
        similar().save(tmp_path / "s")


def test_latex_has_a_row_a_measure_and_escapes_names(made):
    text = made("crate_100%", eps=[0.1, 0.5]).to_latex(caption="R & D")
    assert r"\toprule" in text
    assert r"\caption{R \& D}" in text
    assert r"coding\_rate (eps=0.5) [nats] & crate\_100\%" in text
    assert text.count(r"\\") == 1 + 5  # two of each rate, and l0
    assert r"\begin{table}" not in made().to_latex()
    assert "l0" not in made().to_latex(metrics=["compression"])


def test_the_change_in_print_is_that_of_the_samples(made):
    result = made()
    row = result.changes().set_index("metric").loc["compression"]
    values = result.values("compression")
    assert row["change"] == pytest.approx((values[:, -1] - values[:, 0]).mean())
    assert row["change_ci_low"] < row["change"] < row["change_ci_high"]


def test_a_comparison_in_print_has_its_paired_differences(made):
    comparison = compare([made(), made("vit", shift=2.0)])
    text = comparison.to_latex(metrics=["compression"])
    assert text.count(r"\\") == 1 + 3
    assert r"compression [nats] & vit - crate & \num{2.000}" in text
    page = comparison._repr_html_()
    assert "more rows" not in page
    assert "vit − crate" in page


def test_a_notebook_shows_what_it_is_and_its_head(made):
    page = made("a<b", null=["gaussian"])._repr_html_()
    assert "a&lt;b" in page
    assert "6 samples of images" in page
    assert "null gaussian" in page
    assert "L=3, d=16, K=2, p=6, n=10" in page
    many = made(eps=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])._repr_html_()
    assert "<summary>3 more rows</summary>" in many


def test_a_save_replaces_no_file_of_a_users_own(made, tmp_path):
    (tmp_path / "table.csv").write_text("mine")
    with pytest.raises(ResultError, match=r"table\.csv would be replaced.* Move it away"):
        made().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    (tmp_path / "table.csv").rename(tmp_path / "mine.csv")
    assert Result.load(made().save(tmp_path)) == made()


def write_by_torch(*handed_out):
    """As nobody should, who was warned: torch writes over read-only arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in handed_out:
            torch.as_tensor(np.asarray(each)).fill_(9)


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


def seen():
    return View("crate", {("z_out", 1): np.ones((2, 3, 4))})


def test_a_result_is_not_changed_by_what_it_hands_out(made, tmp_path):
    for found in (made(), Result.load(made().save(tmp_path / "first"))):
        frame, samples = found.frame, found.samples
        frame.loc[0, "mean"] = 999.0
        del frame["layer"]
        samples.iloc[:] = 0
        with pytest.raises(ValueError, match="read-only"):
            np.fill_diagonal(found.matrix("coherence")[0], 0)
        with pytest.raises(ValueError, match="read-only"):
            found.values("l0")[:] = 0
        write_by_torch(found.frame["mean"], found.matrix("coherence"), found.values("l0"))
        write_by_torch(found.samples.iloc[:, 0], *found.matrices.values())
        with pytest.raises(TypeError):
            found.matrices["coherence"] = np.zeros((3, 2, 2))
        assert found == made()
        assert Result.load(found.save(tmp_path / "r")) == made()
    both = compare([made(), made(model="vit")])
    frame = both.frame
    frame["mean"] = 0.0
    assert both == compare([made(), made(model="vit")])
    with pytest.raises(ValueError, match="read-only"):
        similar().cka[0, 0] = 0
    alike = similar()
    write_by_torch(alike.cka, both.frame["mean"])
    assert alike == similar()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled], ids=lambda f: f.__name__)
def test_copies_of_a_result_are_as_safe_as_it_is(again, made):
    found = again(made())
    assert found == made()
    write_by_torch(found.matrix("coherence"))
    for array in (found.matrix("coherence"), again(similar()).cka, again(seen()).at("z_out", 1)):
        assert array.base is None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert found == made()


def test_matrices_are_copied_one_by_one_and_stand_where_a_dict_does(made, tmp_path, monkeypatch):
    found = made()
    copied = counted(monkeypatch, "read_only")
    assert "coherence" in found.matrices
    assert list(found.matrices) == ["coherence"]
    assert not copied
    assert [found.matrices[key].shape for key in found.matrices] == [(3, 2, 2)]
    assert len(copied) == 1
    assert found.matrices == made().matrices == dict(found.matrices) == pickled(found.matrices)
    assert found.matrices != {"coherence": np.ones((3, 2, 2))}
    assert found.matrices != {}
    assert found.matrices != 1
    assert (found.matrices | {"other": 1}).keys() == {"coherence", "other"}
    assert {"coherence": 1} | found.matrices == found.matrices
    assert repr(found.matrices) == repr(dict(found.matrices))
    np.savez(tmp_path / "mine.npz", **found.matrices)
    with np.load(tmp_path / "mine.npz") as again:
        assert found.matrices == dict(again)


def counted(monkeypatch, name):
    """What `held` copies from now on."""
    copied, copies = [], getattr(held, name)
    monkeypatch.setattr(held, name, lambda each: copied.append(each) or copies(each))
    return copied


READ = [repr, Result._repr_html_, Result.changes, Result.to_latex, lambda r: r == copy.copy(r)]


@pytest.mark.parametrize("read", READ)
def test_what_is_only_read_is_not_copied(read, made, monkeypatch):
    found = made()
    copied = counted(monkeypatch, "_own")
    read(found)
    assert not copied


def test_a_save_copies_nothing_and_a_comparison_no_samples(made, tmp_path, monkeypatch):
    ours, theirs = made(), made(model="vit")
    copied = counted(monkeypatch, "_own")
    ours.save(tmp_path)
    assert not copied
    compare([ours, theirs])
    assert not any(each.equals(held.uncopied(ours, "samples")) for each in copied)


def test_wide_samples_are_read_some_columns_at_a_time_and_are_the_same(made, tmp_path, monkeypatch):
    found = made()
    found.save(tmp_path)
    whole, read = Result.load(tmp_path), []
    monkeypatch.setattr(reading, "_WIDE", 4)
    monkeypatch.setattr(reading.pd, "read_parquet", counting(pd.read_parquet, read))
    again = Result.load(tmp_path)
    assert again == whole == found
    assert list(again.samples) == list(whole.samples)
    assert again.samples.index.equals(whole.samples.index)
    assert again.samples.index.name == whole.samples.index.name
    assert max(map(len, read)) == 4


def counting(reader, asked):
    """A reader of parquet that also lists which columns it is asked for."""
    return lambda file, columns: asked.append(columns) or reader(file, columns=columns)


def test_a_result_does_not_follow_the_arrays_it_was_made_of(made):
    mine = made().matrices["coherence"].copy()
    found = replace(made(), matrices={"coherence": mine})
    sites = {("z_out", 1): np.ones((2, 3, 4))}
    view = View("crate", sites)
    mine[:], sites["z_out", 1][:] = 7, 7
    assert found == made()
    assert (view.at("z_out", 1) == 1).all()


SPOILED = {
    "a column": lambda r: {"frame": r.frame.rename(columns={"mean": "m"})},
    "rows": lambda r: {"frame": r.frame[r.frame["metric"] != "l0"]},
    "means": lambda r: {"frame": r.frame.assign(mean=0.0)},
    "matrices": lambda r: {"matrices": {}},
    "objects": lambda r: {"matrices": {k: v.astype(object) for k, v in r.matrices.items()}},
    "no matrices": lambda _: {"matrices": None},
    "samples of other numbers": lambda r: {"samples": r.samples.set_axis(range(100, 106))},
    "samples drawn elsewhere": lambda r: {"identities": r.identities.set_axis(range(3, 9))},
    "a table of objects": lambda r: {"frame": r.frame.assign(mine=object())},
    "a run of objects": lambda r: {"run": with_setting(r.run, "limit", {1, 2})},
    "a run of no seed": lambda r: {"run": with_setting(r.run, "seed", "x")},
}
HARMLESS = {
    "a column of one's own": lambda r: {"frame": r.frame.assign(mine="a")},
    "another order": lambda r: {"samples": r.samples[::-1]},
    "texts as objects": lambda r: {"frame": r.frame.assign(note=r.frame["note"].astype(object))},
    "float32": lambda r: {
        "matrices": {k: v.astype("float32") for k, v in r.matrices.items()},
        "samples": r.samples.astype("float32"),
    },
    "names of their own": lambda r: {"frame": r.frame.set_axis(range(3, 3 + len(r.frame)))},
}


def with_setting(run, name, value):
    found = replace(run)
    found.settings[name] = value
    return found


def with_identities(result):
    known = pd.Series(np.arange(6, dtype=np.uint64) + 2**63, index=result.samples.index)
    return replace(result, identities=known)


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_whatever_was_edited_a_save_is_refused_or_read_again(made, tmp_path):
    """One edit each, and pairs of them by chance."""
    whole = with_identities(made())
    kept = files_in(whole.save(tmp_path / "kept"))
    every, random = {**SPOILED, **HARMLESS}, np.random.default_rng(0)
    chosen = [[name] for name in every]
    chosen += [list(random.choice(list(every), 2, replace=False)) for _ in range(10)]
    for names in chosen:
        found = whole
        try:
            for name in names:
                found = replace(found, **every[name](found))
            found.save(tmp_path / "kept")
        except ResultError:
            assert files_in(tmp_path / "kept") == kept, names
            assert not set(names) <= set(HARMLESS), names
        else:
            again = Result.load(tmp_path / "kept")
            assert set(names) <= set(HARMLESS), names
            assert again.run == found.run
            np.testing.assert_array_equal(again.contents(), found.contents())
            pd.testing.assert_frame_equal(again.samples, found.samples)
            pd.testing.assert_frame_equal(again.frame, found.frame, check_dtype=False)
            whole.save(tmp_path / "kept")
            kept = files_in(tmp_path / "kept")


def test_what_else_is_saved_is_read_before_it_replaces_anything(made, tmp_path):
    both = compare([made(), made(model="vit")])
    both.save(tmp_path)
    with pytest.raises(
        ResultError,
        match=r"nothing is saved in .* would not be read again: comparison\.csv: could not",
    ):
        replace(both, frame=both.frame.assign(mine="a")).save(tmp_path)
    assert Comparison.load(tmp_path) == both
    similar().save(tmp_path / "s")
    with pytest.raises(ResultError, match="nothing is saved"):
        replace(similar(), count=1.5).save(tmp_path / "s")
    assert Similarity.load(tmp_path / "s") == similar()


@pytest.mark.parametrize("part", SPOILED)
def test_what_could_not_be_read_again_replaces_nothing(part, made, tmp_path):
    whole = with_identities(made())
    whole.save(tmp_path)
    told = "nothing is saved in .* would not be read again|no Result can be made of this"
    with pytest.raises(ResultError, match=told):
        replace(whole, **SPOILED[part](whole)).save(tmp_path)
    assert Result.load(tmp_path) == whole


def test_a_column_that_a_save_would_not_keep_is_named(made, tmp_path):
    mine = made().frame.assign(mine=[(1, 2)] * len(made().frame))
    with pytest.raises(ResultError, match=r"table\.parquet does not keep .* its column 'mine'"):
        replace(made(), frame=mine).save(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_the_disk_refuses_is_told_with_its_cause(code, made, tmp_path, monkeypatch):
    both = compare([made(), made(model="vit")])

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pd.DataFrame, "to_csv", refuse)
    for each in (made(), both, similar()):
        with pytest.raises(
            ResultError, match=f"nothing can be saved in .*{os.strerror(code)}"
        ) as told:
            each.save(tmp_path / "r")
        assert told.value.__cause__.errno == code
        assert not any((tmp_path / "r").iterdir())


USERS = {
    "run.json": {"model": "vit", "layers": 12, "lr": 1e-3, "files": ["a.py"], "digest": "x"},
    "audit.json": {"thresholds": [0.5], "verdicts": ["ok"], "rules": {}},
    "comparison.json": {"files": {"table.csv": 3}, "format": 1},
    "similarity.json": {"files": {}, "format": 1, "digest": "ab"},
    "arguments.json": {"metrics": ["acc"], "weights": "imagenet", "lr": 0.1},
}


@pytest.mark.parametrize("name", USERS)
def test_generic_keys_are_no_sign_of_ours(name, tmp_path):
    (tmp_path / name).write_text(json.dumps(USERS[name]))
    (tmp_path / "table.csv").write_text("mine")
    with pytest.raises(ResultError, match=rf"{name}.* would be replaced"):
        module.expect_own(tmp_path, name, ["table.csv"])
    assert not module.is_own_file(tmp_path / name)


def test_what_older_versions_wrote_is_known(made, tmp_path):
    older = Path(__file__).with_name("old")
    assert module.is_own_file(older / "run.json")
    of_first = pd.read_parquet(older / "table.parquet")
    assert tuple(of_first) == kinds.COLUMNS["table.csv"][0]
    (tmp_path / "run.json").write_bytes((older / "run.json").read_bytes())
    (tmp_path / "table.csv").write_text("of an older version")
    assert Result.load(made().save(tmp_path)) == made()
    row = {"model": "crate", "claim": "compresses", "verdict": "supported"}
    of_first = {"thresholds": {"effect": 0.1}, "rules": {}, "verdicts": [row]}
    (tmp_path / "audit.json").write_text(json.dumps(of_first))
    assert module.is_own_file(tmp_path / "audit.json")


def test_a_folder_holds_one_thing_from_python_too(made, tmp_path):
    both = compare([made(), made(model="vit")])
    made().save(tmp_path / "r")
    with pytest.raises(ResultError, match=r"holds a result \(run\.json\): a folder holds one"):
        both.save(tmp_path / "r")
    both.save(tmp_path / "c")
    both.save(tmp_path / "c")
    with pytest.raises(ResultError, match=r"holds a comparison \(comparison\.json\)"):
        made().save(tmp_path / "c")
    similar().save(tmp_path / "s")
    similar().save(tmp_path / "s")
    with pytest.raises(ResultError, match=r"holds a similarity \(similarity\.csv\)"):
        both.save(tmp_path / "s")


def test_the_names_of_files_are_those_that_are_written(made, tmp_path):
    made().save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kinds.FILES[kinds.RESULT])
    both = compare([made(), made(model="vit")]).save(tmp_path / "both")
    assert {path.name for path in both.iterdir()} == set(kinds.FILES[kinds.COMPARISON])
    of_audit = {verdicts.SEAL, *map(verdicts.file_of, verdicts.TABLES)}
    assert of_audit == set(kinds.FILES[kinds.AUDIT])
    alike = similar().save(tmp_path / "similar")
    assert {path.name for path in alike.iterdir()} == set(kinds.FILES[kinds.SIMILARITY])
    for path in tmp_path.rglob("*.csv"):
        assert tuple(pd.read_csv(path)) == kinds.COLUMNS[path.name][-1]


def test_saves_into_one_folder_wait_for_each_other(made, tmp_path, monkeypatch):
    """Moved side by side, files of two results stood together, and half of a save was refused."""
    two, replace_file = [made(), made(shift=5.0)], Path.replace

    def slowly(path, target):
        time.sleep(0.002)
        return replace_file(path, target)

    monkeypatch.setattr(Path, "replace", slowly)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda result: result.save(tmp_path), two * 3))
    assert Result.load(tmp_path) in two
    assert {path.name for path in tmp_path.iterdir()} == set(kinds.FILES[kinds.RESULT])


def saved_while_read(monkeypatch, folder, saves):
    """Let others replace what is read in a folder after its digests were checked, one each time."""
    true, left = module._checked, iter(saves)

    def late(place, *args, **told):
        whole = true(place, *args, **told)
        if place == folder and (other := next(left, None)):
            other.save(folder)
        return whole

    monkeypatch.setattr(module, "_checked", late)


def test_what_is_read_beside_a_save_is_of_one_save(made, tmp_path, monkeypatch):
    one, other = made(), made(shift=5.0, count=7)
    alike = replace(similar(), count=8)
    pairs = [compare([each, made(model="vit")]) for each in (one, made(shift=5.0))]
    every = ((one, other), pairs, (similar(), alike))
    for first, second in every:
        folder = first.save(tmp_path / type(first).__name__)
        with monkeypatch.context() as patch:
            saved_while_read(patch, folder, [second])
            assert type(first).load(folder) == second
    folder = tmp_path / "Result"
    saved_while_read(monkeypatch, folder, itertools.cycle((one, other)))
    with pytest.raises(ResultError, match=r"another save into it is under way.* Try again"):
        Result.load(folder)


def test_what_is_read_while_files_are_moved_below_it_is_read_anew(made, tmp_path, monkeypatch):
    """As of an audit's results: their seals are moved before their other files are."""
    one, other = made(), made(shift=5.0, count=7)
    folder = one.save(tmp_path / "results" / "a")
    new, true = other.save(tmp_path / "new"), module._finish_before

    def begun(*args):
        true(*args)
        monkeypatch.setattr(module, "_finish_before", true)
        both = compare([made(), made(model="vit")]).save(tmp_path / module.SAVED)
        shutil.copytree(new, both / "results" / "a")
        (both / "results" / "a" / "run.json").replace(folder / "run.json")

    monkeypatch.setattr(module, "_finish_before", begun)
    assert Result.load(folder) == other


def test_a_save_that_ends_while_it_is_looked_for_is_no_fault(made, tmp_path, monkeypatch):
    """Whoever moves it removes its folder, and a listing that has begun finds it gone."""
    listed = Path.glob

    def gone(path, pattern):
        if path.name == module.SAVED:
            raise FileNotFoundError(path)
        return listed(path, pattern)

    things = (made(), similar(), compare([made(), made(model="vit")]))
    folders = [each.save(tmp_path / type(each).__name__) for each in things]
    monkeypatch.setattr(Path, "glob", gone)
    for whole, folder in zip(things, folders, strict=True):
        (folder / module.SAVED).mkdir()
        assert type(whole).load(folder) == whole


def test_folders_of_saves_under_way_are_none_of_a_series(made, tmp_path):
    one = made().save(tmp_path / "one")
    shutil.copytree(one, tmp_path / module.SAVED)
    with io.temporary_folder(tmp_path, "saving"):
        assert module.folders_in(tmp_path) == [one]


def test_pickles_of_a_version_that_held_fields_by_their_own_names_are_read(made, tmp_path):
    for whole in (made(), similar(), compare([made(), made(model="vit")])):
        older = type(whole).__new__(type(whole))
        older.__dict__.update({name.removeprefix("_"): each for name, each in vars(whole).items()})
        repr(older)
        assert older == whole
        assert type(whole).load(older.save(tmp_path / type(whole).__name__)) == whole
        assert vars(older).keys() == vars(whole).keys()


def test_a_save_that_is_moved_for_long_is_named_as_such(made, tmp_path, monkeypatch):
    made().save(tmp_path / "r")
    shutil.copytree(tmp_path / "r", tmp_path / "r" / module.SAVED)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(io, "_LONG", 0.02)
    with io.in_turn(tmp_path / "r" / module.SAVED):
        for use in (made().save, Result.load):
            with pytest.raises(ResultError, match="another save into it is under way. Try again"):
                use(tmp_path / "r")
    assert sorted(tmp_path.rglob("*")) == before
    assert Result.load(tmp_path / "r") == made()


def test_a_hidden_folder_that_another_process_tidied_away_is_made_anew(made, tmp_path, monkeypatch):
    make, made_folders = tempfile.mkdtemp, []

    def tidied(**where):
        made_folders.append(make(**where))
        if len(made_folders) == 1:
            Path(made_folders[0]).rmdir()
        return made_folders[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", tidied)
    assert Result.load(made().save(tmp_path)) == made()


def test_a_users_manifest_and_tables_of_the_names_of_ours_are_replaced_by_nothing(made, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"files": {"table.csv": "ab" * 32}}))
    with pytest.raises(ResultError, match=r"run\.json would be replaced"):
        made().save(tmp_path)
    (tmp_path / "run.json").unlink()
    others = kinds.FILES[kinds.RESULT][1:]
    for name in others:
        (tmp_path / name).write_text("mine")
    before = files_in(tmp_path)
    with pytest.raises(ResultError, match=r"table\.csv, .* would be replaced.* Move them away"):
        made().save(tmp_path)
    assert files_in(tmp_path) == before
    made().save(tmp_path / "ours")
    (tmp_path / "ours" / "matrices.npz").write_text("damaged")
    assert Result.load(made().save(tmp_path / "ours")) == made()
