"""What a DataLoader gives: each sample once, and what it drops is told."""

import itertools
from multiprocessing import active_children

import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    get_worker_info,
)

import whitebox_probe as wp
from tests.conftest import small_vit
from tests.probing.sharing import IMAGES, model_of
from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe._core.process import as_found

X = IMAGES[:20]
TWICE = X[torch.arange(20) // 2]  # legitimate duplicates, side by side
REFUSED = "2 workers .* more than once: the dataset is read whole by each worker.*get_worker_info"


class Stream(IterableDataset):
    """Gives all samples to each worker."""

    def __init__(self, samples=X):
        self.samples = samples

    def mine(self):
        return range(len(self.samples))

    def __iter__(self):
        return (self.samples[i] for i in self.mine())


class Shuffles(Stream):
    def mine(self):
        return torch.randperm(len(self.samples)).tolist()


class Overlaps(Stream):
    """Splits itself, but for one sample that two workers have."""

    def mine(self):
        worker, half = get_worker_info(), len(self.samples) // 2
        return (
            [range(half), range(half - 1, 2 * half)][worker.id]
            if worker.num_workers > 1
            else (range(2 * half))
        )


class Strides(Stream):
    def mine(self):
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return range(first, len(self.samples), step)


class Chunks(Stream):
    """Splits itself, and needs a worker to be read."""

    def mine(self):
        worker = get_worker_info()
        length = -(-len(self.samples) // worker.num_workers)
        return range(length * worker.id, min(length * (worker.id + 1), len(self.samples)))


class Bare(Stream):
    """Is split by what the loader calls in each worker."""

    first, step = 0, 1

    def mine(self):
        return range(self.first, len(self.samples), self.step)


class Endless(Strides):
    def __init__(self, split):
        super().__init__()
        self.split = split

    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if self.split else (0, 1)
        return (self.samples[i % 20] + i // 40 for i in itertools.count(first, step))


def split(number):
    worker = get_worker_info()
    worker.dataset.first, worker.dataset.step = number, worker.num_workers


def probed(loader, **options):
    return wp.probe(model_of("crate"), loader, ["l0"], progress=False, **options)


@pytest.mark.parametrize("data", [Stream(), Shuffles(), Overlaps(), Stream(TWICE)])
@pytest.mark.parametrize("batch_size", [3, 20])
def test_a_stream_that_each_worker_reads_whole_is_refused(data, batch_size):
    with pytest.raises(DataError, match=REFUSED) as error:
        probed(DataLoader(data, batch_size, num_workers=2))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("samples", "limit"),
    [(X, None), (TWICE, 7), (X[:1].expand(20, -1, -1, -1), None)],
)
@pytest.mark.parametrize("kind", [Strides, Chunks])
def test_a_stream_that_splits_itself_may_hold_a_sample_twice(samples, kind, limit):
    loader = DataLoader(kind(samples), 3, num_workers=2)
    assert len(probed(loader, limit=limit).samples) == (limit or 20)


@pytest.mark.parametrize("data", [Stream(), [torch.full((3, 12, 12), torch.nan)] * 20])
def test_workers_end_with_the_call_though_its_error_is_kept(data):
    before = active_children()
    with pytest.raises(DataError) as kept:
        probed(DataLoader(data, 3, num_workers=2))
    assert kept.value.__traceback__ is not None
    assert active_children() == before


def test_workers_that_the_caller_keeps_stay():
    loader = DataLoader(TensorDataset(TWICE), 4, num_workers=2, persistent_workers=True)
    before = len(active_children())
    assert len(probed(loader).samples) == len(probed(loader).samples) == 20
    assert len(active_children()) == before + 2


def test_a_stream_that_the_loader_splits_is_read():
    loader = DataLoader(Bare(TWICE), 4, num_workers=2, worker_init_fn=split)
    assert len(probed(loader).samples) == 20
    with pytest.raises(DataError, match=REFUSED):
        probed(DataLoader(Bare(TWICE), 4, num_workers=2))


def test_a_stream_without_end_is_looked_up_as_far_as_it_was_read():
    assert len(probed(DataLoader(Endless(True), 4, num_workers=2), limit=50).samples) == 50
    with pytest.raises(DataError, match=REFUSED):
        probed(DataLoader(Endless(False), 4, num_workers=2), limit=50)


@pytest.mark.parametrize("workers", [0, 1])
def test_one_reader_reads_a_stream_once(workers):
    assert len(probed(DataLoader(Stream(TWICE), 4, num_workers=workers)).samples) == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_that_a_map_style_data_set_holds_twice_are_measured(workers):
    loader = DataLoader(TensorDataset(TWICE), 4, num_workers=workers)
    assert len(probed(loader).samples) == 20


def test_whatever_reads_a_loader_refuses_it():
    loader = DataLoader(Stream(), 4, num_workers=2)
    crate, vit = model_of("crate"), model_of("vit")
    with pytest.raises(DataError, match=REFUSED):
        wp.similarity(crate, vit, loader, progress=False)
    with pytest.raises(DataError, match=REFUSED):
        wp.probe(crate, X, ["compression"], basis="pca", fit_data=loader, progress=False)


def test_looking_up_draws_none_of_the_callers_random_numbers():
    loader = DataLoader(Strides(TWICE), 4, num_workers=2, generator=torch.Generator())
    model, before = model_of("crate"), torch.get_rng_state()
    wp.probe(model, loader, ["l0"], progress=False)
    assert torch.equal(torch.get_rng_state(), before)


DROPPED = "dropped by the loader, as they do not fill a batch (drop_last=True)"


class Sized(Stream):
    def __len__(self):
        return len(self.samples)


def sampled(sampler, data=None):
    return DataLoader(
        TensorDataset(X) if data is None else data, batch_sampler=BatchSampler(sampler, 6, True)
    )


@pytest.mark.parametrize(
    ("loader", "count", "dropped"),
    [
        (DataLoader(TensorDataset(X), 6, drop_last=True), 18, 2),
        (DataLoader(TensorDataset(X), 6, drop_last=True, shuffle=True), 18, 2),
        (sampled(SequentialSampler(X)), 18, 2),
        (sampled(SubsetRandomSampler(range(9))), 6, 3),
        (DataLoader(Sized(), 6, drop_last=True), 18, 2),
        (DataLoader(TensorDataset(X), 5, drop_last=True), 20, 0),
        (DataLoader(TensorDataset(X), 6), 20, 0),
    ],
)
def test_what_a_loader_drops_is_told(loader, count, dropped, tmp_path):
    result = probed(loader)
    assert len(result.samples) == count
    assert result.run.data.get("left_out", {}) == ({DROPPED: dropped} if dropped else {})
    if dropped:
        assert DROPPED in (result.save(tmp_path) / "run.json").read_text()


@pytest.mark.parametrize(("workers", "most"), [(0, 5), (2, 10)])
def test_of_a_stream_it_is_told_how_many_may_be_dropped(workers, most):
    data = Strides() if workers else Stream()
    result = probed(DataLoader(data, 6, drop_last=True, num_workers=workers))
    assert len(result.samples) == (18 if workers == 0 else 12)
    assert result.run.data["left_out"] == {f"at most {DROPPED}": most}


def test_a_loader_that_drops_all_is_refused():
    with pytest.raises(DataError, match=r"gives no batch: its 20 samples do not fill one"):
        probed(DataLoader(TensorDataset(X), 21, drop_last=True))


class Halves(nn.Module):
    """A part that writes over what it is given."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner(images.mul_(0.5))


def halving():
    torch.manual_seed(0)
    net = small_vit()
    net.patch_embed.proj = Halves(net.patch_embed.proj)
    return wp.wrap(net, name="halving")


class Fresh(IterableDataset):
    """Gives two batches, made anew each time."""

    def __iter__(self):
        return iter([X[:10].clone(), X[10:].clone()])


class Kept(Stream):
    """Gives batches that it holds."""

    def __iter__(self):
        return iter(self.samples)


FITTED = {"basis": "pca", "fit_limit": 10, "limit": 10, "progress": False}


@pytest.mark.parametrize("kind", [list, Kept])
@pytest.mark.parametrize(
    "use",
    [
        lambda data: wp.probe(halving(), data, ["l0"], progress=False).frame["mean"].tolist(),
        lambda data: wp.view(halving(), data, sites=["z_out"], limit=8).sites["z_out", 1].tolist(),
        lambda data: wp.similarity(halving(), halving(), data, rank=1, progress=False).cka.tolist(),
        lambda data: wp.probe(halving(), data, ["compression"], **FITTED).frame["mean"].tolist(),
        lambda data: wp.audit(halving(), data, null=False, progress=False).frame.to_json(),
    ],
    ids=["probe", "view", "similarity", "fitted", "audit"],
)
def test_a_model_that_writes_over_its_input_leaves_the_loaders_batches_alone(use, kind):
    fresh = [X[:10].clone(), X[10:].clone()]
    want = use(DataLoader(Fresh(), batch_size=None))
    assert use(DataLoader(kind(fresh), batch_size=None)) == want
    assert torch.equal(torch.cat(fresh), X)


def test_a_data_set_of_ready_batches_is_told_to_be_read_without_a_batch_size():
    ready = [X[:10], X[10:]]
    with pytest.raises(DataError, match=r"20 samples .* were read of 2: .* use batch_size=None"):
        probed(DataLoader(ready, batch_size=1, collate_fn=lambda batch: batch[0]))
    assert len(probed(DataLoader(ready, batch_size=None)).samples) == 20


class Counts(DataLoader):
    """Notes how many workers are alive each time that it is opened."""

    def __iter__(self):
        self.alive = [*getattr(self, "alive", []), len(active_children())]
        return super().__iter__()


def test_workers_end_with_their_pass_that_stops_early():
    before, model, loader = len(active_children()), model_of("crate"), Counts(X, 2, num_workers=1)
    options = {"limit": 6, "progress": False}
    wp.nulls(model, loader, ["l0"], kinds=["gaussian", "shuffled"], **options)
    wp.probe(model, X, ["compression"], basis=["pca"], fit_data=loader, fit_limit=4, **options)
    wp.similarity(model, model, loader, rank=2, **options)
    wp.audit(model, loader, null=False, **options)
    assert loader.alive == [before] * 5


@pytest.mark.parametrize("of_model", [True, False])
def test_workers_end_with_their_pass_that_an_error_stops(of_model):
    @as_found()
    def twice():
        for _ in range(2):
            with pytest.raises(ProbeError) as kept:
                wp.probe(model, loader, ["l0"], progress=False)
            errors.append(kept.value)

    before, errors = len(active_children()), []
    samples, model = X.clone(), model_of("crate")
    if of_model:
        model.module.register_forward_hook(lambda *_: 1 / 0)
    else:
        samples[8] = torch.nan
    loader = Counts(samples, 2, num_workers=1)
    twice()
    assert len(errors) == 2
    assert loader.alive == [before] * 2
