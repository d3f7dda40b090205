"""A run does not go on with data whose samples yet to be measured have changed."""

import io
import os
import shutil
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import whitebox_probe as wp
from tests.conftest import small_vit
from tests.probing.test_resume import Cut, cut_after, same
from whitebox_probe._core.errors import ProcessError
from whitebox_probe.data import _digest
from whitebox_probe.probing.collector import Collector

COUNT = 24


def rows(change):
    """Inputs, those behind the measured ones changed or not; nothing else tells of the change."""
    random = np.random.default_rng(1)
    inputs = random.normal(size=(COUNT, 3, 12, 12)).astype(np.float32)
    inputs[-1] *= 1 + 4 * change
    return inputs


def npy(path, change):
    np.save(path / "x.npy", rows(change))
    return str(path / "x.npy")


def by_column(path, change):
    np.save(path / "x.npy", np.asfortranarray(rows(change)))
    return str(path / "x.npy")


def npz(path, change):
    labels = np.arange(COUNT) % 3
    labels[-1] = 0 if change else 2
    np.savez(path / "x.npz", inputs=rows(0), labels=labels)
    return str(path / "x.npz")


def shard(path, change):
    with tarfile.open(path / "x.tar", "w") as tar:
        for number, row in enumerate(rows(change)):
            held = io.BytesIO()
            np.save(held, row)
            about = tarfile.TarInfo(f"{number:03}.npy")
            about.size = held.tell()
            tar.addfile(about, io.BytesIO(held.getvalue()))
    return wp.data(str(path / "x.tar"), column="npy")


def images(path, change):
    for number in range(COUNT):
        pixels = np.full((12, 12), number + 99 * (change and number == COUNT - 1), np.uint8)
        Image.fromarray(pixels).save(path / f"{number:02}.bmp")
    return str(path / "*.bmp")


KINDS = (npy, by_column, npz, shard, images)


def probe(folder, data, **options):
    torch.manual_seed(0)
    model = wp.wrap(small_vit(), name="v", preprocess=wp.Preprocess.imagenet(12))
    settings = {"batch_size": 4, "progress": False, "save_every": 0.0} | options
    return wp.probe(model, data, ["l0"], checkpoint=folder, **settings)


def begun(folder, data, monkeypatch, **options):
    with monkeypatch.context() as patch:
        cut_after(patch, Collector, "take", 10)
        with pytest.raises(Cut):
            probe(folder, data, **options)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_yet_to_be_measured_has_to_be_the_same(kind, tmp_path, monkeypatch):
    data = kind(tmp_path, change=False)
    begun(tmp_path / "run", data, monkeypatch)
    kind(tmp_path, change=True)
    with pytest.raises(
        ProcessError, match="changed since it began: samples' content. Use the same"
    ):
        probe(tmp_path / "run", data)
    kind(tmp_path, change=False)  # other times, the same content
    same(probe(tmp_path / "run", data), probe(None, data))


def test_a_copy_is_the_same_and_what_is_not_measured_does_not_count(tmp_path, monkeypatch):
    data = npy(tmp_path, change=False)
    begun(tmp_path / "run", data, monkeypatch, limit=16)
    chosen = probe(None, data, limit=16).samples.index.get_level_values("sample").unique()
    other = next(n for n in range(1, COUNT) if n not in chosen)  # the first one is in the name
    changed = rows(False)
    changed[other] += 1
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "x.npy", changed)
    os.utime(tmp_path / "b" / "x.npy", (1, 1))
    same(
        probe(tmp_path / "run", str(tmp_path / "b" / "x.npy"), limit=16),
        probe(None, data, limit=16),
    )
    changed[chosen[-1]] += 1
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "x.npy", changed)
    begun(tmp_path / "again", data, monkeypatch, limit=16)
    with pytest.raises(ProcessError, match="samples' content"):
        probe(tmp_path / "again", str(tmp_path / "b" / "x.npy"), limit=16)


def test_a_change_before_the_first_save_is_none_that_is_gone_on_with(tmp_path, monkeypatch):
    data = npy(tmp_path, change=False)
    taken, calls = Collector.take, []

    def take(*args):
        calls.append(1)
        if len(calls) == 4:  # in the midst of the pass, which has saved nothing yet
            npy(tmp_path / "b", change=True)
            os.replace(tmp_path / "b" / "x.npy", tmp_path / "x.npy")
        if len(calls) == 8:
            signal.raise_signal(signal.SIGINT)
        return taken(*args)

    (tmp_path / "b").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Collector, "take", take)
        with pytest.raises(KeyboardInterrupt, match="samples are saved"):
            probe(tmp_path / "run", data, save_every=60)
    with pytest.raises(ProcessError, match="samples' content"):
        probe(tmp_path / "run", data)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int64])
def test_rows_are_told_apart_whatever_holds_them(dtype, monkeypatch):
    monkeypatch.setattr(_digest, "_AT_ONCE", 64)
    tensor = torch.arange(60).view(12, 5).to(dtype)
    some = [1, 2, 3, 7, 11]
    known = _digest.of_rows([tensor, ["a", 1, None] * 4], some)
    assert known == _digest.of_rows([tensor.clone(), ["a", 1, None] * 4], some)
    for row in range(12):
        other = tensor.clone()
        other[row, 4] += 100
        assert (_digest.of_rows([other, ["a", 1, None] * 4], some) != known) == (row in some)
    assert _digest.of_rows([tensor, ["a", 2, None] * 4], some) != known
    if dtype != torch.bfloat16:
        assert _digest.of_rows([tensor.numpy()], some) == _digest.of_rows([tensor], some)


def picture(shade, mode="L"):
    made = Image.new(mode, (3, 2), shade)
    if mode == "P":
        made.putpalette([shade, 0, 0] * 256)
    return made


@pytest.mark.parametrize(
    "value",
    [
        lambda n: np.int64(n),
        lambda n: np.float32(n),
        lambda n: torch.full((2, n + 1), 3.0),  # of other lengths
        lambda n: np.full(3, n),
        lambda n: np.array([None, n], dtype=object),
        lambda n: [1, [2, n]],
        lambda n: {"bytes": b"x" * n, "path": None},
        lambda n: picture(n),
        lambda n: picture(n, "P"),
        lambda n: Path(f"of/{n}.png"),
        lambda n: f"a\ud800{n}",
    ],
)
def test_what_a_list_holds_is_told_apart(value):
    def digest(*numbers):
        return _digest.of_rows([[value(n) for n in numbers]], [0, 2])

    assert digest(1, 2, 3) == digest(1, 2, 3) == digest(1, 4, 3)  # the second is not measured
    column = np.empty(3, dtype=object)
    column[:] = [value(n) for n in (1, 2, 3)]
    assert _digest.of_rows([column], [0, 2]) == digest(1, 2, 3)
    assert len({digest(1, 2, 3), digest(3, 2, 1), digest(1, 2, 4)}) == 3


def test_what_has_no_bytes_is_left_to_the_reader():
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    cut = Image.open(io.BytesIO(whole.getvalue()[:500]))
    assert _digest.of_rows([[cut, torch.eye(2).to_sparse(), object()]], [0, 1, 2])
