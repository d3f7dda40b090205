"""A pass that was cut off goes on to the very same table, or says why it cannot."""

import argparse
import dataclasses
import json
import os
import signal
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import whitebox_probe as wp
from tests.conftest import small_crate, stopping_at
from tests.probing.sharing import IMAGES, LABELLED, metrics_of, model_of
from whitebox_probe._core.errors import DataError, ProcessError
from whitebox_probe.probing import identity, state
from whitebox_probe.probing.collector import Collector
from whitebox_probe.probing.probe import SkippedWarning

MODEL = "crate"


class Cut(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def probe(folder=None, model=None, data=LABELLED, metrics=None, **options):
    options = {"batch_size": 4, "progress": False, "save_every": 0.0} | options
    return wp.probe(model or model_of(MODEL), data, metrics, checkpoint=folder, **options)


def same(got, want):
    pd.testing.assert_frame_equal(got.frame, want.frame, check_exact=True)
    assert got.samples.equals(want.samples)
    assert got.matrices.keys() == want.matrices.keys()
    for key, matrix in want.matrices.items():
        np.testing.assert_array_equal(got.matrices[key], matrix)
    volatile = ("seconds", "created")
    runs = [{k: v for k, v in r.run.items() if k not in volatile} for r in (got, want)]
    assert runs[0] == runs[1]


def cut_after(monkeypatch, owner, name, calls):
    """Cut the pass off in the middle of the so-manieth call."""
    whole = getattr(owner, name)
    left = [calls]

    def cut(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            if name == "savez":
                whole(args[0], half=np.zeros(3))
            raise Cut
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, name, cut)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["crate", "vit"])
def test_cut_off_anywhere_again_and_again_it_gives_the_same(kind, tmp_path, monkeypatch):
    model = model_of(kind)
    metrics = metrics_of(model)
    options = {"orthonormal": kind == "vit", "limit": 34}
    want = probe(None, model, metrics=metrics, **options)
    random = np.random.default_rng(3)
    cuts = 0
    for run in range(4):
        folder = tmp_path / str(run)
        while True:
            where = (Collector, "take") if random.random() < 0.6 else (state.np, "savez")
            calls = int(random.integers(1, 90 if where[1] == "take" else 8))
            with monkeypatch.context() as patch:
                cut_after(patch, *where, calls)
                try:
                    got = probe(folder, model, metrics=metrics, **options)
                except Cut:
                    cuts += 1
                    assert not any(layer._forward_hooks for layer in model.module.modules())
                else:
                    break
        same(got, want)
        assert [p.name for p in folder.iterdir()] == ["state-0-of-1.npz"]
    assert cuts > 8


def test_a_pass_that_is_whole_is_not_run_again(tmp_path, monkeypatch):
    want = probe(tmp_path)
    monkeypatch.setattr(Collector, "start", None)
    same(probe(tmp_path), want)


def test_a_short_pass_leaves_nothing_behind(tmp_path):
    probe(tmp_path / "new", save_every=60)
    assert not (tmp_path / "new").exists()


def test_null_sweep_and_masks_go_on_too(tmp_path, monkeypatch):
    masks = torch.rand(61, 10, generator=torch.Generator().manual_seed(1)) < 0.7
    masks[:, :2] = True
    data = [(image, mask) for image, mask in zip(IMAGES, masks, strict=True)]
    options = {"null": "gaussian", "eps": [0.1, 0.5], "metrics": ["compression", "l0"]}
    want = probe(None, model_of("vit"), data, **options)
    with monkeypatch.context() as patch:
        cut_after(patch, Collector, "take", 40)
        with pytest.raises(Cut):
            probe(tmp_path, model_of("vit"), data, **options)
    same(probe(tmp_path, model_of("vit"), data, **options), want)


def begun(folder, monkeypatch, **options):
    with monkeypatch.context() as patch:
        cut_after(patch, Collector, "take", 30)
        with pytest.raises(Cut):
            probe(folder, **options)


def another_model():
    model = model_of(MODEL)
    with torch.no_grad():
        next(model.module.parameters()).flatten()[0] += 1e-6
    return model


def other_lambda():
    torch.manual_seed(0)
    return wp.wrap(small_crate(lam=1.0), name=MODEL)


def other_heads():
    torch.manual_seed(0)
    return wp.wrap(small_crate(heads=3, dim_head=4), name=MODEL)


def other_step():
    model = model_of(MODEL)
    model.module.transformer.layers[1][1].fn.step_size = 0.2
    return model


def other_preprocessing():
    return dataclasses.replace(model_of(MODEL), preprocess=wp.Preprocess.imagenet(12))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"limit": 30}, r"limit \(was 40, is 30\)"),
        ({"seed": 1}, r"seed \(was 0, is 1\)"),
        ({"eps": 0.2}, r"eps \(was 0.1, is 0.2\)"),
        ({"lam": 0.2}, r"lam \(was 0.1, is 0.2\)"),
        ({"basis": "random"}, r"basis \(was .native., is .random.\)"),
        ({"convention": "official", "metrics": ["compression", "l0"]}, "convention"),
        ({"metrics": ["l0"]}, "metrics"),
        ({"sites": {"l0": "z_half"}}, r"sites \(was"),
        ({"batch_size": 8}, r"batch_size \(was 4, is 8\)"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"null": "gaussian"}, r"null \(was null, is .gaussian.\)"),
        ({"class_token": False}, "class_token"),
        ({"data": IMAGES + 1}, "data"),
        ({"model": another_model}, "weights"),
        ({"model": other_lambda}, r"ISTA.lam \(was 0.1, is 1.0\). Use the same"),
        ({"model": other_heads}, r"MSSA.heads \(was 2, is 3\)"),
        ({"model": other_step}, r"ISTA.step_size \(was 0.1, is \[0.1, 0.2, 0.1\]\)"),
        ({"model": other_preprocessing}, r"preprocess \(was null, is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_has_changed_is_named(changes, named, tmp_path, monkeypatch):
    first = {"limit": 40, "metrics": ["compression", "l0"], "data": IMAGES}
    begun(tmp_path, monkeypatch, **first)
    before = (tmp_path / "state-0-of-1.npz").read_bytes()
    if "model" in changes:
        changes = {"model": changes["model"]()}
    with pytest.raises(ProcessError, match=f"cannot go on: changed since it began: {named}"):
        probe(tmp_path, **(first | changes))
    assert (tmp_path / "state-0-of-1.npz").read_bytes() == before
    assert len(probe(tmp_path, **(first | {"workers": 1})).samples) == 40


def test_the_constants_of_a_network_are_the_same_when_it_is_loaded_again():
    names = ["crate-tiny-fmnist", "vit-tiny-fmnist", "crate-tiny-kjv", "gpt2-tiny-kjv"]
    for name in names:
        first, again = wp.load(name), wp.load(name)
        found = identity.constants(first.module)
        data = "kjv" if "kjv" in name else "fashion-mnist"
        wp.probe(again, data, ["l0", "attention_entropy"], limit=2, progress=False)
        again.module.train()
        assert identity.constants(again.module) == found
        json.dumps(found)
    assert found["GPT2Attention.layer_idx"] == list(range(6))
    assert found["GPT2Attention.config.activation_function"] == "gelu_new"


class Own(torch.nn.Module):
    """Holds what no tensor does, and things that are not to count."""

    def __init__(self, power=2.0, act=torch.relu, config=None):
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
        self.power, self.act, self.config = power, act, config
        self.log, self._calls = [object()], id(self)


def test_what_counts_of_a_module_of_ones_own():
    plain = identity.constants(Own())
    assert plain["Own.power"] == 2.0
    assert plain["Linear.in_features"] == 2
    assert not any("log" in key or "calls" in key or "training" in key for key in plain)
    config = argparse.Namespace(window=3, _path="x", deep=object())
    for changed in (Own(3.0), Own(act=torch.tanh), Own(config=config)):
        assert identity.constants(changed) != plain
    assert identity.constants(Own(config=config))["Own.config.window"] == 3
    swapped = Own()
    swapped.inner = torch.nn.Sequential(swapped.inner)
    layout = "layout of the network"
    assert identity.constants(swapped)[layout] != plain[layout]


def test_the_state_is_plain_arrays_and_json(tmp_path, monkeypatch):
    begun(tmp_path, monkeypatch)
    with np.load(tmp_path / "state-0-of-1.npz", allow_pickle=False) as archive:
        about = json.loads(str(archive["about"]))
        assert archive["values"].dtype == np.float64
        assert len(archive["ids"]) == about["batches"] * 4


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_state_is_an_error_that_names_it(damage, tmp_path, monkeypatch):
    begun(tmp_path, monkeypatch)
    path = tmp_path / "state-0-of-1.npz"
    path.write_bytes(path.read_bytes()[:1000] if damage is None else damage)
    with pytest.raises(ProcessError, match=r"state-0-of-1.npz cannot be read"):
        probe(tmp_path)


def test_a_pickle_in_a_state_is_not_opened(tmp_path):
    np.savez(tmp_path / "state-0-of-1.npz", about=np.array([{"format": 1}], dtype=object))
    with pytest.raises(ProcessError, match="cannot be read: 'about' holds Python objects"):
        probe(tmp_path)


def test_states_of_another_number_of_processes_are_refused(tmp_path, monkeypatch):
    begun(tmp_path, monkeypatch)
    (tmp_path / "state-0-of-1.npz").rename(tmp_path / "state-2-of-3.npz")
    with pytest.raises(ProcessError, match="begun by 3 processes, and this one has 1"):
        probe(tmp_path)


def test_a_loaders_pass_cannot_be_saved(tmp_path):
    with pytest.raises(DataError, match="DataLoader of TensorDataset cannot be saved"):
        probe(tmp_path, data=DataLoader(LABELLED, batch_size=4))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_pass_after_the_batch_and_it_goes_on(number, tmp_path, monkeypatch):
    want = probe()
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(Collector, "take", stopping_at(Collector.take, 40, number))
        with pytest.raises(KeyboardInterrupt, match=r"stopped: \d+ samples are saved in"):
            probe(tmp_path, save_every=60)
    assert signal.getsignal(number) is before
    same(probe(tmp_path), want)


@pytest.mark.parametrize("gone", [False, True])
def test_it_goes_on_over_files_whose_names_are_no_utf_8(gone, tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        name = os.fsdecode(b"caf\xe9-%d.png" % number)
        try:
            Image.new("L", (28, 28), 20 * number).save(folder / name)
        except OSError:
            pytest.skip("this disk has no such names")
    (folder / os.fsdecode(b"b\xff.png")).write_bytes(b"no picture")

    def over():
        return wp.probe(
            "crate-tiny-fmnist",
            folder,
            ["l0"],
            on_error="skip",
            batch_size=1,
            progress=False,
            checkpoint=tmp_path / "state",
        )

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "take", stopping_at(Collector.take, 30))
        with pytest.raises(KeyboardInterrupt, match=r"[1-5] samples are saved in"):
            over()
    if gone:
        (folder / os.fsdecode(b"caf\xe9-5.png")).unlink()
    with pytest.warns(SkippedWarning):
        found = over()
    assert len(found.samples) == 6 - gone
    assert found.run.data["skipped"][0]["why"].startswith(str(folder / r"b\udcff.png"))


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    def take(*args):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Collector, "take", take)
    with pytest.raises(KeyboardInterrupt):
        probe(tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_thread_saves_without_listening(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(probe(tmp_path)))
    thread.start()
    thread.join()
    same(found[0], probe())


@pytest.mark.parametrize("package", ["torch", "timm", "transformers", "whitebox-probe"])
def test_a_run_goes_on_beside_the_same_versions_only(package, tmp_path, monkeypatch):
    from whitebox_probe.probing import identity

    first = {"limit": 40, "metrics": ["l0"], "data": IMAGES}
    begun(tmp_path, monkeypatch, **first)
    known = identity.version_of
    monkeypatch.setattr(
        identity, "version_of", lambda name: "99.1" if name == package else known(name)
    )
    with pytest.raises(ProcessError, match=rf"changed since it began: versions.*{package}.*99\.1"):
        probe(tmp_path, **first)
    monkeypatch.undo()
    assert len(probe(tmp_path, **first).samples) == 40
