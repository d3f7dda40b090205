"""What holds for each kind of data and each named data set, found unaided."""

import pytest
import torch

from whitebox_probe._core.errors import DataError, MissingDependency, ProbeError
from whitebox_probe.data.catalogue import kinds
from whitebox_probe.data.images import image_transform
from whitebox_probe.data.names import names, readers
from whitebox_probe.data.source import open_data
from whitebox_probe.data.text import TextReader

KINDS = list(kinds().values())
CONTRACTS = ("plain", "other", "empty", "not finite", "wrong type")
IMAGE = image_transform(
    size=8, mean=(0.5,), std=(0.5,), mode="L", crop=1.0, interpolation="bilinear"
)
READER = TextReader("bytes", 16)
TRANSFORMS = {"images": IMAGE, "text": READER, "either": IMAGE, "inputs": None}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request):
    return request.param


@pytest.fixture
def examples(kind, tmp_path):
    return kind.examples(tmp_path)


@pytest.fixture(params=list(names()))
def named(request):
    """The name of a data set, and the transform for what its file reads."""
    why = getattr(readers()[request.param], "EXEMPT", {}).get(request.param)
    if why is not None:
        assert len(why.split()) > 3
        pytest.skip(why)
    try:
        content = readers()[request.param].read(request.param)
    except MissingDependency as error:
        pytest.skip(str(error))
    return request.param, READER if isinstance(content, str) else IMAGE


def read(source, batch_size=4):
    """Numbers, inputs and classes of every sample."""
    batches = list(source.batches(batch_size, 0))
    labels = [batch.labels for batch in batches]
    return (
        torch.cat([batch.ids for batch in batches]),
        torch.cat([batch.inputs for batch in batches]),
        None if None in labels else torch.cat(labels),
    )


def check_numbers(source):
    ids, inputs, labels = read(source)
    assert (ids[1:] > ids[:-1]).all()
    assert len(ids) == len(inputs) >= 5
    assert source.count in (None, len(ids))
    assert list(source.numbers) in ([], ids.tolist())
    assert source.labelled == (labels is not None)
    one_by_one = read(source, 1)
    assert torch.equal(one_by_one[0], ids)
    assert torch.equal(one_by_one[1], inputs)


def check_twice(one, two):
    assert (one.name, one.fingerprint, one.count) == (two.name, two.fingerprint, two.count)
    for first, second in zip(read(one)[:2], read(two)[:2], strict=True):
        assert torch.equal(first, second)


def check_draw(data, transform):
    """A limit draws by the seed, in order; of batches that come in their order, the first ones."""
    whole = open_data(data, transform=transform)
    ids, inputs, _ = read(whole)
    for seed in (0, 5):
        source = open_data(data, transform=transform, limit=3, seed=seed)
        drawn = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))[:3]
        expected = drawn.sort().values if source.numbers else torch.arange(3)
        found, of_them, _ = read(source)
        assert found.tolist() == expected.tolist()
        assert torch.equal(of_them, inputs[expected])
        assert source.count in (None, 3)
    assert open_data(data, transform=transform, limit=10**6).count == whole.count


def told(data, transform):
    """The one line that is said of data that cannot be read to their end."""
    with pytest.raises(DataError) as error:
        read(open_data(data, transform=transform))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_each_contract_has_its_example_or_a_reason(kind, examples):
    assert set(examples) | set(kind.exempt) == set(CONTRACTS)
    assert not set(examples) & set(kind.exempt)
    for why in kind.exempt.values():
        assert len(why.split()) > 3


def test_it_says_what_it_is(kind):
    assert kind.name.isidentifier()
    assert kind.words
    assert type(kind).__doc__
    assert kind.reads in TRANSFORMS


def test_exactly_one_kind_takes_each_example(kind, examples):
    for what, data in examples.items():
        taking = [k for k in KINDS if not k.general and k.takes(data)]
        taking = taking or [k for k in KINDS if k.general and k.takes(data)]
        assert taking == [kind], what
    assert sum(k.general for k in KINDS) == 1


def test_numbers_are_unique_and_in_order(kind, examples):
    check_numbers(open_data(examples["plain"], transform=TRANSFORMS[kind.reads]))


def test_two_openings_are_the_same(kind, examples):
    check_twice(*(open_data(examples["plain"], transform=TRANSFORMS[kind.reads]) for _ in range(2)))


def test_other_content_has_another_fingerprint(kind, examples):
    if "other" in examples:
        one, two = (
            open_data(examples[what], transform=TRANSFORMS[kind.reads])
            for what in ("plain", "other")
        )
        assert one.fingerprint
        assert one.fingerprint != two.fingerprint
    else:
        open_data(examples["plain"], transform=TRANSFORMS[kind.reads])


def test_a_limit_draws_by_the_seed(kind, examples):
    check_draw(examples["plain"], TRANSFORMS[kind.reads])


@pytest.mark.parametrize("what", ["empty", "not finite", "wrong type"])
def test_what_cannot_be_measured_is_told_in_one_line(kind, examples, what):
    if what in kind.exempt:
        pytest.skip(kind.exempt[what])
    line = told(examples[what], TRANSFORMS[kind.reads])
    if what == "not finite":
        assert "NaN or infinity" in line


def test_the_same_is_told_of_reading_processes(kind, examples):
    """torch hands their errors on as text of a RuntimeError; ours stay what they are."""
    if "not finite" not in examples:
        pytest.skip(kind.exempt["not finite"])
    source = open_data(examples["not finite"], transform=TRANSFORMS[kind.reads])
    with pytest.raises(DataError, match="sample 3 of .*NaN or infinity"):
        list(source.batches(2, 1))


def test_a_transform_of_the_other_sort_is_refused(kind, examples):
    other = {"images": READER, "text": IMAGE, "either": READER}.get(kind.reads)
    if other is None:
        assert open_data(examples["plain"], transform=IMAGE).count in (None, 6)
        return
    assert "the model reads" in told(examples["plain"], other)
    assert "does not say how" in told(examples["plain"], None)


def whole(data):
    """All that an error about data says, however long."""
    with pytest.raises(DataError) as error:
        open_data(data, transform=None)
    assert len(str(error.value)) < 500
    return f"{error.value.what} {error.value.why} {error.value.fix}"


def test_errors_name_every_kind():
    """What cannot be opened is told what can, by the kinds themselves."""
    # The line itself is cut where it would be over 500 characters.
    line = whole(3.5)
    for kind in KINDS:
        assert kind.words in line
    line = whole("no-such-data")
    for kind in KINDS:
        assert (kind.words in line) == (kind.by_path and kind.name != "name")


@pytest.mark.parametrize("what", ["x" * 100_000, "x\0y", "", ".txt", "fashion-mnist:"])
def test_no_string_is_too_odd_to_be_told_about(what):
    with pytest.raises(ProbeError) as error:
        open_data(what, transform=IMAGE)
    assert len(str(error.value)) < 1000


class TestNamed:
    def test_it_says_what_it_is(self, named):
        name, _ = named
        assert names()[name]
        facts = readers()[name].about(name)
        assert facts["read from"]
        assert readers()[name].__doc__

    def test_it_keeps_the_contracts(self, named):
        name, transform = named
        check_numbers(open_data(name, transform=transform, limit=9))
        check_twice(*(open_data(name, transform=transform, limit=9) for _ in range(2)))

    def test_a_limit_draws_by_the_seed(self, named):
        check_draw(*named)

    def test_a_transform_of_the_other_sort_is_refused(self, named):
        name, transform = named
        assert "the model reads" in told(name, READER if transform is IMAGE else IMAGE)
        assert "does not say how" in told(name, None)


def test_no_two_names_have_one_fingerprint():
    found = {}
    for name, module in readers().items():
        if name in getattr(module, "EXEMPT", {}):
            continue
        try:
            content = module.read(name)
        except MissingDependency:
            continue
        transform = READER if isinstance(content, str) else IMAGE
        found[name] = open_data(name, transform=transform).fingerprint
    assert len(set(found.values())) == len(found) >= 2
