"""Samples are known by what they are: other data, or another order, are not the same."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import whitebox_probe as wp
from tests.probing.sharing import IMAGES, LABELS, model_of
from whitebox_probe._core.errors import DataError, ProcessError, ResultError
from whitebox_probe.models.preprocess import Preprocess
from whitebox_probe.probing.collector import Collector
from whitebox_probe.results.result import Result

X = IMAGES[:20]


def probed(data, kind="crate", metrics=("l0",), name=None, **options):
    options = {"progress": False, "batch_size": 4} | options
    return wp.probe(model_of(kind), data, list(metrics), name=name or kind, **options)


def prints(result):
    return result.run["data"]["fingerprint"]


class Shuffled(Dataset):
    """The same samples by other numbers."""

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return X[(i * 7) % 20]


class OneOther(Shuffled):
    """The first sample is the same, and one is not."""

    def __getitem__(self, i):
        return X[i] + (i == 13)


def loader(shuffle=False):
    torch.manual_seed(0)
    return DataLoader(TensorDataset(X), 4, shuffle=shuffle)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (loader(), loader(shuffle=True)),
        (loader(shuffle=True), loader(shuffle=True)),
        (loader(), DataLoader(TensorDataset(X + 1), 4)),
        (Shuffled(), type("Shuffled", (OneOther,), {})()),
    ],
    ids=["shuffled", "shuffled twice", "other content", "one other sample"],
)
def test_other_samples_or_another_order_are_not_paired(one, other):
    results = [probed(one), probed(other, "vit")]
    with pytest.raises(ResultError, match=r"crate has 20 samples, vit has 20, and \d+ of 20 "):
        wp.compare(results)


def test_loaders_of_the_same_samples_are_paired(tmp_path):
    results = [probed(loader()), probed(loader(), "vit")]
    assert prints(results[0]) == prints(results[1]) != ""
    assert len(wp.compare(results).differences)
    loaded = [Result.load(each.save(tmp_path / each.model)) for each in results]
    assert loaded == results
    assert loaded[0].samples.equals(results[0].samples)
    assert len(wp.compare(loaded).differences)


def test_the_fingerprint_depends_on_nothing_but_the_samples(tmp_path, monkeypatch):
    want = prints(probed(X))
    for options in ({"batch_size": 7}, {"workers": 1}, {"metrics": ["hoyer"]}, {"kind": "vit"}):
        assert prints(probed(X, **options)) == want
    assert prints(probed(TensorDataset(X, LABELS[:20]))) == want  # classes are told by themselves
    assert prints(probed(loader())) == want
    taken, calls = Collector.take, []

    def cut(*args):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return taken(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "take", cut)
        with pytest.raises(KeyboardInterrupt):
            probed(X, checkpoint=tmp_path, save_every=0)
    assert prints(probed(X, checkpoint=tmp_path, save_every=0)) == want


def test_masks_tell_samples_apart_and_a_whole_one_does_not():
    mask = torch.ones(20, 10, dtype=torch.bool)
    assert prints(probed(TensorDataset(X, mask), "vit")) == prints(probed(X))
    mask[3, 4] = False
    assert prints(probed(TensorDataset(X, mask), "vit")) != prints(probed(X))


def test_images_are_known_before_they_are_prepared(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (15, 12, 3), np.uint8)).save(tmp_path / f"{i}.bmp")
    models = [model_of("crate"), model_of("vit")]
    prepared = [Preprocess.imagenet(12), Preprocess((12), (0.5,) * 3, (0.5,) * 3, crop=1.0)]
    models = [
        wp.wrap(m.module, name=m.name, preprocess=p) for m, p in zip(models, prepared, strict=True)
    ]
    results = [wp.probe(m, tmp_path, ["l0"], progress=False) for m in models]
    assert prints(results[0]) == prints(results[1])
    assert len(wp.compare(results).differences)
    image = Image.open(tmp_path / "3.bmp")
    pixels = np.array(image)
    pixels[0, 0] += 1  # the size of the file stays
    Image.fromarray(pixels).save(tmp_path / "3.bmp")
    changed = wp.probe(models[1], tmp_path, ["l0"], progress=False)
    with pytest.raises(ResultError, match="1 of 6 samples .*such as sample 3"):
        wp.compare([results[0], changed])


def test_of_other_limits_the_samples_that_both_have_are_paired():
    one, two = probed(X, limit=9), probed(X, "vit", limit=5)
    found = wp.compare([one, two])
    assert any("samples that both have are paired" in note for note in found.notes)
    told = (
        "crate has 9 samples, vit has 5, and 5 of 5 samples whose number both have are not the same"
    )
    with pytest.raises(ResultError, match=told):
        wp.compare([one, probed(Shuffled(), "vit", limit=5)])


def test_results_that_say_nothing_of_their_samples_are_not_paired():
    results = [probed(loader()), probed(loader(), "vit")]
    bare = []
    for each in results:
        data = dict(each.run.data) | {"fingerprint": ""}
        run = each.run.of(each.run.to_dict() | {"data": data})
        bare.append(Result(each.frame, each.samples, each.matrices, run))
    with pytest.raises(ResultError, match="not known to be the same"):
        wp.compare(bare)


class StopsEarly(Dataset):
    """Promises more samples than it has."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 20

    def __getitem__(self, i):
        if i >= 13:
            raise self.error
        return X[i]


class Stream(IterableDataset):
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(X)


@pytest.mark.parametrize("error", [StopIteration(), IndexError("13"), KeyError("gone")])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_that_stops_early_is_an_error(error, workers):
    with pytest.raises(DataError, match="sample 13 of StopsEarly cannot be read"):
        probed(StopsEarly(error), workers=workers)


def test_a_loader_that_gives_another_number_is_an_error():
    probed(DataLoader(Stream(20), 4))
    with pytest.raises(DataError, match="20 samples .*25"):
        probed(DataLoader(Stream(25), 4))


def test_a_similarity_of_a_loader_that_stops_early_is_an_error():
    crate, vit = model_of("crate"), model_of("vit")
    for other in (crate, vit):
        wp.similarity(crate, other, DataLoader(Stream(20), 4), rank=4, progress=False)
        with pytest.raises(DataError, match=r"20 samples .*25"):
            wp.similarity(crate, other, DataLoader(Stream(25), 4), rank=4, progress=False)


def test_a_similarity_of_data_that_end_sooner_the_second_time_is_an_error():
    class Shrinks(Stream):
        times = 0

        def __iter__(self):
            self.times += 1
            return iter(X[: 20 if self.times == 1 else 12])

    with pytest.raises(DataError, match=r"not given the same samples: the data end sooner"):
        wp.similarity(
            model_of("crate"), model_of("vit"), DataLoader(Shrinks(20), 4), progress=False
        )


@pytest.mark.parametrize("basis", ["pca", "pca:clusters"])
def test_a_fit_on_a_loader_that_stops_early_is_an_error(basis):
    def fitted(length):
        data = DataLoader(Stream(length), 4)
        return probed(X, metrics=["compression"], basis=basis, fit_data=data)

    fitted(20)
    with pytest.raises(DataError, match=r"20 samples .*25"):
        fitted(25)


def test_a_loader_that_draws_a_part_promises_that_part():
    part = torch.utils.data.SubsetRandomSampler(range(9))
    assert probed(DataLoader(TensorDataset(X), 4, sampler=part)).run.count == 9


def test_resuming_reads_again_what_was_measured(tmp_path, monkeypatch):
    taken, calls = Collector.take, []

    def cut(*args):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return taken(*args)

    class Data(Shuffled):
        other = 99

        def __getitem__(self, i):
            return X[i] + (i == self.other)

    data = Data()
    with monkeypatch.context() as patch:
        patch.setattr(Collector, "take", cut)
        with pytest.raises(KeyboardInterrupt):
            probed(data, checkpoint=tmp_path, save_every=0)
    data.other = 5
    with pytest.raises(ProcessError, match="1 of 8 samples are not what .* such as sample 5"):
        probed(data, checkpoint=tmp_path, save_every=0)
    data.other = 99
    assert len(probed(data, checkpoint=tmp_path, save_every=0).samples) == 20


class Labelled(Shuffled):
    """The same samples, whose classes may change."""

    def __init__(self):
        self.labels = [i % 3 for i in range(20)]

    def __getitem__(self, i):
        return X[i], self.labels[i]


def begun(data, folder, monkeypatch, **options):
    taken, calls = Collector.take, []

    def cut(*args):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return taken(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "take", cut)
        with pytest.raises(KeyboardInterrupt):
            probed(data, checkpoint=folder, save_every=0, **options)


def test_resuming_with_other_classes_is_refused(tmp_path, monkeypatch):
    data, options = Labelled(), {"metrics": ["neural_collapse", "l0"]}
    whole = probed(data, **options)
    begun(data, tmp_path, monkeypatch, **options)
    for labels in ([(i + 1) % 3 for i in range(20)], [0, 1, 2, 0, 1, 1, 0, 1] + [2] * 12):
        data.labels = labels
        count = 8 if labels[0] else 1
        with pytest.raises(ProcessError, match=rf"{count} of 8 samples are of another class"):
            probed(data, checkpoint=tmp_path, save_every=0, **options)
    data.labels = Labelled().labels
    got = probed(data, checkpoint=tmp_path, save_every=0, **options)
    assert got.frame.equals(whole.frame)
    assert got.run.labels == whole.run.labels


def test_classes_that_no_measure_uses_may_change(tmp_path, monkeypatch):
    data = Labelled()
    begun(data, tmp_path, monkeypatch)
    data.labels = data.labels[::-1]
    assert len(probed(data, checkpoint=tmp_path, save_every=0).samples) == 20


def test_results_of_other_classes_are_not_compared():
    one, two = Labelled(), Labelled()
    two.labels = [i // 7 for i in range(20)]
    options = {"metrics": ["neural_collapse", "l0"]}
    results = [probed(one, **options), probed(two, "vit", **options)]
    assert prints(results[0]) == prints(results[1])
    with pytest.raises(ResultError, match="differ in data: .* classes"):
        wp.compare(results)
    assert len(wp.compare([results[0], probed(one, "vit", **options)]).differences)
    assert len(wp.compare([results[0], probed(two, "vit")]).differences)  # no measure uses them


@pytest.mark.parametrize("loader", [False, True])
def test_a_sample_without_a_class_is_named(loader):
    data = [(X[i], i % 3) if i < 14 else (X[i], None) for i in range(20)]

    def paired(items):
        inputs = torch.stack([x for x, _ in items])
        classes = [y for _, y in items]
        return (inputs,) if None in classes else (inputs, torch.tensor(classes))

    given = DataLoader(data, 4, collate_fn=paired) if loader else data
    number = 12 if loader else 14  # of the first batch without classes
    with pytest.raises(DataError, match=f"sample {number} has no class"):
        probed(given, metrics=["neural_collapse"])
    assert len(probed(given).samples) == 20


def test_a_state_of_other_samples_is_refused(tmp_path):
    probed(X, checkpoint=tmp_path, save_every=0)
    path = tmp_path / "state-0-of-1.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **(arrays | {"ids": arrays["ids"] + 1}))
    with pytest.raises(ProcessError, match="cannot be read: the state is not as it was written"):
        probed(X, checkpoint=tmp_path, save_every=0)


def test_similarity_refuses_two_orders():
    data = DataLoader(TensorDataset(X), 4, shuffle=True)
    with pytest.raises(DataError, match="not given the same samples"):
        wp.similarity(model_of("crate"), model_of("vit"), data, progress=False)


def test_other_data_of_a_fit_are_told_apart():
    class One(Shuffled):
        def __getitem__(self, i):
            return X[i]

    class Fits(One):
        def __getitem__(self, i):
            return X[i] + (i == 13)

    Fits.__name__ = Fits.__qualname__ = "One"
    results = [
        probed(X, metrics=["compression"], basis="pca", fit_data=fit(), name=fit.__doc__ or str(n))
        for n, fit in enumerate((One, Fits))
    ]
    with pytest.raises(ResultError, match="differ in the data that the basis"):
        wp.compare(results)
