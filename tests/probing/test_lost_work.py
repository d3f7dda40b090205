"""What a fault costs: known before the pass, or one sample, and never what was measured."""

import ast
import configparser
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import whitebox_probe as wp
from tests.probing.sharing import IMAGES, model_of
from whitebox_probe import metrics as room
from whitebox_probe._core.errors import DataError, MissingDependency, ProcessError
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.probing.collector import Collector
from whitebox_probe.probing.probe import SkippedWarning

OPTIONS = {"progress": False, "batch_size": 2, "save_every": 0}


def model():
    made = model_of("crate")
    return wp.wrap(made.module, name="crate", preprocess=wp.Preprocess.imagenet(12))


def pictures(folder, count=12):
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(rng.integers(0, 255, (14, 12, 3), np.uint8)).save(path)
    return folder


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def probed(data, metrics=("l0", "class_rate"), **options):
    return wp.probe(model(), data, list(metrics), **(OPTIONS | options))


def test_a_missing_package_is_told_before_the_pass(monkeypatch):
    monkeypatch.setitem(sys.modules, "skdim", None)
    monkeypatch.setattr(Collector, "start", None)
    with pytest.raises(MissingDependency, match="'intrinsic_dimension' needs the package skdim"):
        wp.probe(model_of("crate"), IMAGES, ["l0", "intrinsic_dimension"], progress=False)


def test_each_measure_states_the_optional_packages_that_it_imports():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    needed = re.findall(r"^([\w-]+)", config["options"]["install_requires"], re.MULTILINE)
    always = {*sys.stdlib_module_names, *needed, "whitebox_probe", "sklearn", "PIL", "yaml"}
    stated = {
        kind.__module__.rpartition(".")[2]: set(kind.needs_packages)
        for kind in catalogue().values()
        if kind.needs_packages
    }
    for path in Path(room.__file__).parent.glob("*.py"):
        found = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
        }
        if path.stem != "torch":  # the adapter, which no probe imports
            assert found - always == stated.get(path.stem, set()), path


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_samples_are_skipped_and_listed(tmp_path, workers):
    folder = pictures(tmp_path)
    for name in (names(folder)[0], *names(folder)[6:8]):  # the first one, and a whole batch
        (folder / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match="00.png is not a readable image"):
        probed(folder)
    with pytest.warns(SkippedWarning, match="3 of 12 samples of .* are skipped"):
        got = probed(folder, on_error="skip", workers=workers)
    assert list(got.samples.index) == [1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert got.run.count == 9
    assert [each["sample"] for each in got.run.data["skipped"]] == [0, 6, 7]
    assert "00.png is not a readable image" in got.run.data["skipped"][0]["why"]
    assert got.run.settings["on_error"] == "skip"
    for name in (names(folder)[0], *names(folder)[6:8]):
        (folder / name).unlink()
    alone = probed(folder)
    np.testing.assert_allclose(got.samples.to_numpy(), alone.samples.to_numpy(), rtol=1e-5)


class Raises(Dataset):
    def __init__(self, *numbers):
        self.numbers = numbers

    def __len__(self):
        return 12

    def __getitem__(self, i):
        if i in self.numbers:
            raise OSError("broken")
        return IMAGES[i] / (0.0 if i == 3 else 1.0)


def test_samples_of_a_dataset_are_skipped_whatever_is_wrong_with_them():
    with pytest.warns(SkippedWarning, match="3 of 12"):
        got = probed(Raises(0, 7), ["l0"], on_error="skip")
    assert [each["sample"] for each in got.run.data["skipped"]] == [0, 3, 7]
    with pytest.raises(DataError, match="sample 11 of Raises cannot be read: OSError: broken"):
        probed(Raises(*range(12)), ["l0"], on_error="skip")
    with pytest.raises(DataError, match="it hands out whole batches"):
        probed(DataLoader(Raises(), 4), ["l0"], on_error="skip")


def test_skipped_samples_are_remembered_when_a_pass_goes_on(tmp_path, monkeypatch):
    taken, calls = Collector.take, []

    def cut(*args):
        calls.append(1)
        if len(calls) == 14:
            raise KeyboardInterrupt
        return taken(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "take", cut)
        with pytest.raises(KeyboardInterrupt):
            probed(Raises(1), ["l0"], on_error="skip", checkpoint=tmp_path)
    assert any(tmp_path.iterdir())
    with pytest.warns(SkippedWarning, match="2 of 12"):
        got = probed(Raises(1), ["l0"], on_error="skip", checkpoint=tmp_path)
    assert [each["sample"] for each in got.run.data["skipped"]] == [1, 3]


def test_an_unreadable_image_costs_nothing_that_was_measured(tmp_path):
    folder, kept = pictures(tmp_path / "data"), tmp_path / "state"
    bad = folder / names(folder)[8]
    bad.write_bytes(b"no picture")
    with pytest.raises(DataError, match="what was measured is saved in .* the same call goes on"):
        probed(folder, checkpoint=kept, save_every=60)
    with np.load(kept / "state-0-of-1.npz") as archive:
        assert len(archive["ids"]) == 8
    bad.unlink()
    with pytest.warns(SkippedWarning, match="1 of 12 samples .*No such file"):
        got = probed(folder, checkpoint=kept)
    assert list(got.samples.index) == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11]
    assert got.run.data["skipped"][0]["sample"] == 8
    whole = probed(folder)
    np.testing.assert_allclose(got.samples.to_numpy(), whole.samples.to_numpy(), rtol=1e-5)
    assert got.run.labels == whole.run.labels


@pytest.mark.parametrize("how", ["measured", "a class", "limit"])
def test_files_that_are_gone_keep_the_others_numbers(tmp_path, how):
    folder, kept = pictures(tmp_path / "data"), tmp_path / "state"
    limit = 10 if how == "limit" else None
    want = probed(folder, limit=limit)
    bad = folder / names(folder)[7]
    whole = bad.read_bytes()
    bad.write_bytes(b"?" * len(whole))
    with pytest.raises(DataError):
        probed(folder, checkpoint=kept, limit=limit)
    bad.write_bytes(whole)
    if how == "a class":
        shutil.rmtree(folder / "b")
    else:
        (folder / names(folder)[0]).unlink()  # measured before, or not drawn
    if how == "a class":
        with pytest.warns(SkippedWarning):
            got = probed(folder, checkpoint=kept)
        assert list(got.samples.index) == [0, 1, 2, 3, 4, 5]
    else:
        got = probed(folder, checkpoint=kept, limit=limit)
        assert got.samples.equals(want.samples)


@pytest.mark.parametrize("change", ["a new file", "another file"])
def test_a_folder_that_did_not_only_lose_files_is_another(tmp_path, change):
    folder, kept = pictures(tmp_path / "data"), tmp_path / "state"
    bad = folder / names(folder)[8]
    bad.write_bytes(b"no picture")
    with pytest.raises(DataError):
        probed(folder, checkpoint=kept)
    bad.unlink()
    if change == "a new file":
        Image.new("RGB", (12, 12)).save(folder / "a" / "new.png")
    else:
        Image.new("RGB", (50, 50)).save(folder / names(folder)[1])
    with pytest.raises(ProcessError, match="changed since it began: data"):
        probed(folder, checkpoint=kept)


def test_nothing_is_lost_or_added_when_all_can_be_read():
    one, two = (probed(list(IMAGES[:12]), ["l0"], on_error=each) for each in ("stop", "skip"))
    assert one.samples.equals(two.samples)
    assert "skipped" not in two.run.data
    assert torch.equal(*(torch.tensor(each.identities.to_numpy()) for each in (one, two)))
