"""A sweep's file: what is read, what is refused and by which words, and the cells it stands for."""

import os

import pytest

from whitebox_probe._core.errors import ProbeError, SweepError
from whitebox_probe.sweeping.file import MOST_BYTES, read
from whitebox_probe.sweeping.sweep import planned

CRATE, VIT = "crate-tiny-fmnist", "vit-tiny-fmnist"


@pytest.fixture
def file(tmp_path):
    """Writes a sweep's file, and gives its path."""

    def write(text):
        path = tmp_path / "sweep.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def cells(**document):
    return [each.cell for each in planned({"out": "nowhere", **document}).sweep.cells]


def names(**document):
    return [cell.name for cell in cells(**document)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modles: [a]", "unknown key 'modles' in"),
        ("modles: [a]", "Did you mean 'models'?"),
        ("models: [a]\nsettings: {epz: 1}", "unknown key 'epz' in 'settings' of"),
        ("models: [a]\nsettings: {epz: 1}", "Did you mean 'eps'?"),
        ("models: [{model: a, archh: b}]", "unknown key 'archh' in 'models[1]' of"),
        ("models: [a, {name: b}]", "'models[2]' of"),
        ("models: [a, {name: b}]", "has no 'model'"),
        ("out: x", "has no 'models'"),
        ("models: []", "'models' of"),
        ("models: [a]\nlimit: 0", "'limit' of"),
        ("models: [a]\nsettings: {eps: {}}", "must be a value, or a list of values"),
        ("models: [a]\nmodels: [b]", "'models' stands twice in"),
        ("models: [a", "is not YAML"),
        ("- a", "must be object"),
        (b"models: [\xff]", "is not UTF-8"),
        ("models: !!python/object/apply:os.system [ls]", "is not YAML"),
        ("models: &m [*m]", "stands in what it names"),
        ("models: [a]\nlimit: !!float ''", "'' in line 2 is no value of the kind float"),
        ("models: [a]\nlimit: !!bool x", "'x' in line 2 is no value of the kind bool"),
        ("models: [a]\nlimit: !!timestamp x", "'x' in line 2 is no value of the kind timestamp"),
        ("models: [a]\nlimit: !!int x", "'x' in line 2 is no value of the kind int"),
    ],
)
def test_a_file_that_cannot_be_followed_is_refused_in_one_line(text, told, file):
    with pytest.raises(SweepError) as refused:
        read(file(text))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_numbers_of_a_file_are_those_of_yaml_1_2(file):
    assert read(file("models: [a]\nlimit: 1e1"))["limit"] == 10
    assert read(file("models: [a]\nlimit: 0o17"))["limit"] == 15


def test_a_file_that_stands_for_more_than_memory_holds_is_refused_at_once(file):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(SweepError, match="may hold 100000"):
        read(file("\n".join(lines[:5])))
    with pytest.raises(SweepError, match="more than 1,048,576 values"):
        read(file("\n".join(lines)))
    with pytest.raises(SweepError, match="bytes"):
        read(file("models: [a]\n#" + "x" * MOST_BYTES))
    with pytest.raises(SweepError, match="cannot be read"):
        read("nowhere.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_the_file_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "sweep.yaml")
    with pytest.raises(SweepError, match="cannot be read: it is a pipe"):
        read(tmp_path / "sweep.yaml")


def test_a_mark_of_byte_order_and_a_merged_mapping_are_read(file):
    text = "\ufeffmodels:\n- &one {model: a, weights: random}\n- {<<: *one, name: b}"
    assert read(file(text))["models"][1] == {"model": "a", "weights": "random", "name": "b"}


def test_lists_are_a_grid_and_a_list_in_a_list_is_one_pass():
    found = cells(models=[CRATE, VIT], settings={"eps": [0.1, [0.2, 0.4]], "lam": "1e-2"})
    assert [cell.name for cell in found] == [
        f"{CRATE}, eps=0.1",
        f"{CRATE}, eps=0.2+0.4",
        f"{VIT}, eps=0.1",
        f"{VIT}, eps=0.2+0.4",
    ]
    assert found[1].settings["eps"] == [0.2, 0.4]
    assert found[0].settings["lam"] == [0.01]


def test_null_is_a_name_and_none_a_value(file):
    path = file(f"models: {CRATE}\nout: x\nsettings: {{null: [none, gaussian]}}")
    found = [each.cell for each in planned(path).sweep.cells]
    assert [cell.settings["null"] for cell in found] == [[None], ["gaussian"]]
    assert [cell.name for cell in found] == [f"{CRATE}, null=none", f"{CRATE}, null=gaussian"]


def test_cells_stand_in_place_of_the_whole_and_exclude_leaves_some_out():
    grid = {"models": [CRATE, VIT], "settings": {"eps": [0.1, 0.5]}}
    some = names(**grid, cells=[{"model": CRATE}, {"eps": [0.5, 0.9]}])
    assert some == [
        f"{CRATE}, eps=0.1",
        f"{CRATE}, eps=0.5",
        f"{CRATE}, eps=0.9",
        f"{VIT}, eps=0.5",
        f"{VIT}, eps=0.9",
    ]
    assert names(**grid, exclude=[{"model": VIT, "eps": 0.5}]) == [
        f"{CRATE}, eps=0.1",
        f"{CRATE}, eps=0.5",
        f"{VIT}, eps=0.1",
    ]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"models": ["crate-tiny-fmnits"]}, "Did you mean 'crate-tiny-fmnist'?"),
        ({"models": ["gone/away.pt"]}, "there is no file gone/away.pt"),
        ({"models": ["gone-*.pt"]}, "no file fits gone-*.pt"),
        ({"models": [CRATE, CRATE]}, f"two of the models are called '{CRATE}'"),
        ({"models": [CRATE, {"name": "b", "model": CRATE}]}, "are the same"),
        ({"models": [CRATE], "data": "fashion-mnits"}, "Did you mean 'fashion-mnist'?"),
        ({"models": [CRATE], "metrics": ["l00"]}, "Did you mean 'l0'?"),
        ({"models": [CRATE], "settings": {"eps": [0.1, 0]}}, "eps is 0"),
        ({"models": [CRATE], "settings": {"dtype": "float8"}}, "unknown dtype 'float8'"),
        ({"models": [CRATE], "settings": {"seed": [[1, 2]]}}, "'seed' has several values"),
        ({"models": [CRATE], "limit": 5, "settings": {"limit": 6}}, "limit is given twice"),
        ({"models": [CRATE], "exclude": [{"eps": 0.7}]}, "exclude[1] leaves out nothing"),
        ({"models": [CRATE], "exclude": [{"eps": 0.1}]}, "the sweep has no cell"),
        ({"models": [CRATE], "cells": [{"model": VIT}]}, f"there is no model '{VIT}' of cells[1]"),
        ({"models": [CRATE], "execution": {"batch_size": 0}}, "batch_size is 0"),
        ({"models": [CRATE], "settings": {"seed": list(range(10_001))}}, "10001 cells"),
    ],
)
def test_what_is_wrong_is_told_before_a_cell_is_begun(document, told):
    with pytest.raises(ProbeError) as refused:
        planned({"out": "nowhere", **document})
    assert told in str(refused.value)


def test_a_sweep_without_a_folder_is_refused():
    with pytest.raises(SweepError, match="no folder is named"):
        planned({"models": CRATE})


def test_a_cell_is_told_by_what_its_numbers_depend_on_and_by_nothing_else(tmp_path):
    (one,) = cells(models=CRATE)
    (other,) = cells(models={"name": "mine", "model": CRATE}, execution={"batch_size": 2})
    (stated,) = cells(models=CRATE, settings={"eps": 0.1, "seed": 0})
    assert one.identity == other.identity == stated.identity
    changed = [
        {"models": VIT},
        {"models": {"model": CRATE, "weights": "random"}},
        {"models": {"model": CRATE, "set": {"lam": 0.5}}},
        {"models": CRATE, "settings": {"eps": 0.2}},
        {"models": CRATE, "settings": {"seed": 1}},
        {"models": CRATE, "limit": 7},
        {"models": CRATE, "metrics": ["l0"]},
        {"models": CRATE, "sites": {"l0": "z_half"}},
        {"models": CRATE, "data": "photos"},
    ]
    assert len({one.identity, *(cells(**each)[0].identity for each in changed)}) == 10


def test_a_file_counts_by_what_it_holds_and_not_by_where_it_is(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("a.pt", "b.pt")]
    for path in paths:
        path.write_bytes(b"weights")
    one, other = (cells(models=str(path))[0] for path in paths)
    assert (one.name, other.name) == ("a", "b")
    assert one.told() == other.told()
    paths[0].write_bytes(b"other weights")
    (changed,) = cells(models=str(paths[0]))
    assert changed.identity != one.identity
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    assert names(models=["*.pt"], data=["images", "photos"]) == [
        "a, images",
        "a, photos",
        "b, images",
        "b, photos",
    ]


def test_paths_in_a_file_start_at_its_folder_and_a_folder_that_is_passed_does_not(file, tmp_path):
    (tmp_path / "w.pt").write_bytes(b"weights")
    path = file("models: w.pt\nout: runs")
    (cell,) = planned(path).sweep.cells
    assert cell.cell.model["model"] == str(tmp_path / "w.pt")
    assert cell.folder.parent == tmp_path / "runs" / "cells"
    assert str(planned(path, out="there").sweep.folder) == "there"
