"""What stands beside an input: a mask in any of its forms, a class, or an error."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe.data import open_data
from whitebox_probe.models.families.crate_gpt import CrateGPT

IDS = torch.randint(0, 256, (6, 16), generator=torch.Generator().manual_seed(2))
MASK = torch.arange(16)[None] < torch.tensor([16, 12, 9, 16, 5, 7])[:, None]
FORMS = {
    "int64": lambda m: m.long(),
    "int32": lambda m: m.int(),
    "uint8": lambda m: m.to(torch.uint8),
    "bool": lambda m: m,
}
SAMPLE_FORMS = {
    "list": lambda m: m.int().tolist(),
    "list of booleans": lambda m: m.tolist(),
    "array": lambda m: m.numpy().astype(np.int64),
    "array of another machine": lambda m: m.numpy().astype(">i8"),
    "array backwards": lambda m: m.flip(0).numpy()[::-1],
}


def read(source):
    batches = list(source.batches(4, 0))
    masks = [batch.mask for batch in batches]
    return batches, None if None in masks else torch.cat(masks)


@pytest.mark.parametrize("form", [*FORMS, *SAMPLE_FORMS])
def test_a_mask_of_samples_is_one_in_every_form(form):
    make = (FORMS | SAMPLE_FORMS)[form]
    source = open_data([(ids, make(mask)) for ids, mask in zip(IDS, MASK, strict=True)])
    _, masks = read(source)
    assert masks.dtype == torch.bool
    assert torch.equal(masks, MASK)
    assert not source.labelled


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_of_a_loader_is_one_in_every_form(form):
    loader = DataLoader(TensorDataset(IDS, FORMS[form](MASK)), batch_size=4)
    batches, masks = read(open_data(loader, limit=5))
    assert masks.dtype == torch.bool
    assert torch.equal(masks, MASK[:5])
    assert all(batch.labels is None for batch in batches)


@pytest.mark.parametrize("make", [int, torch.tensor, np.int64])
def test_a_whole_number_stays_a_class_even_if_it_is_0_or_1(make):
    source = open_data([(ids, make(i % 2)) for i, ids in enumerate(IDS)])
    batches, masks = read(source)
    assert source.labelled
    assert masks is None
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1, 0, 1, 0, 1]


def test_classes_of_a_loader_stay_classes():
    loader = DataLoader(TensorDataset(IDS, torch.arange(6) % 2), batch_size=4)
    batches, masks = read(open_data(loader))
    assert masks is None
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1, 0, 1, 0, 1]


WRONG = {
    "next tokens": IDS + 2,
    "minus hundred": torch.where(MASK, 1, -100).flip(0),
    "floats": MASK.float(),
    "one number": torch.ones(6, 1, dtype=torch.int64),
    "a mask of pairs": MASK[:, None].expand(6, 16, 16),
}


@pytest.mark.parametrize("what", WRONG)
def test_any_other_row_of_numbers_is_refused(what):
    for data in (
        list(zip(IDS, WRONG[what], strict=True)),
        DataLoader(TensorDataset(IDS, WRONG[what]), batch_size=3),
    ):
        with pytest.raises(DataError, match=r"sample 0.*neither a mask .* nor a class") as error:
            read(open_data(data))
        assert "\n" not in str(error.value)


def test_what_lies_beside_an_image_and_is_no_row_is_left_alone():
    images = torch.rand(6, 3, 8, 8)
    for beside in (["a caption"], "a caption", {"box": 1}, torch.ones(8, 8).long(), None, 0.5):
        _, masks = read(open_data([(image, beside) for image in images]))
        assert masks is None


@pytest.mark.parametrize("at", [0, 1, 3, 4, 5])
def test_a_mask_that_only_some_samples_have_is_refused(at):
    pairs = list(zip(IDS, MASK.long(), strict=True))
    for data in (
        [(ids, mask) if i == at else ids for i, (ids, mask) in enumerate(pairs)],
        [ids if i == at else (ids, mask) for i, (ids, mask) in enumerate(pairs)],
    ):
        with pytest.raises(DataError, match="Give all samples a mask"):
            read(open_data(data))


def test_masks_of_several_lengths_are_refused():
    data = [(ids, mask[: 16 - i // 5]) for i, (ids, mask) in enumerate(zip(IDS, MASK, strict=True))]
    with pytest.raises(DataError, match=r"samples 4 and 5 .*masks are \(16,\) and \(15,\)"):
        read(open_data(data))


def test_a_measure_is_that_of_the_boolean_mask():
    model = wp.wrap(CrateGPT(vocabulary=256, block_size=16, dim=16, depth=2, heads=2))
    metrics = ["coding_rate", "compression", "l0"]
    found = [
        wp.probe(model, data, metrics, progress=False).samples
        for data in (
            TensorDataset(IDS, MASK),
            TensorDataset(IDS, MASK.long()),
            DataLoader(TensorDataset(IDS, MASK.long()), batch_size=4),
        )
    ]
    unmasked = wp.probe(model, IDS, metrics, progress=False).samples
    for other in found[1:]:
        assert (found[0] == other).all(axis=None)
    assert not (found[0] == unmasked).all(axis=None)


CLASSES = torch.tensor([3, 1, 0, 1, 2, 0])
ORDERS = {"class first": (CLASSES, MASK.long()), "mask first": (MASK.long(), CLASSES)}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("loader", [False, True])
def test_a_class_and_a_mask_are_both_heeded_in_either_order(order, loader):
    data = TensorDataset(IDS, *ORDERS[order])
    source = open_data(DataLoader(data, batch_size=4) if loader else data)
    batches, masks = read(source)
    assert source.labelled
    assert torch.equal(masks, MASK)
    assert torch.equal(torch.cat([batch.labels for batch in batches]), CLASSES)
    alone, _ = read(open_data(TensorDataset(IDS, MASK)))
    for batch, other in zip(batches, alone, strict=True):
        assert torch.equal(batch.identities, other.identities)


@pytest.mark.parametrize("loader", [False, True])
def test_a_measure_heeds_the_mask_in_third_place(loader):
    model = wp.wrap(CrateGPT(vocabulary=256, block_size=16, dim=16, depth=2, heads=2))
    want = wp.probe(model, TensorDataset(IDS, MASK), ["coding_rate"], progress=False).samples
    data = TensorDataset(IDS, CLASSES, MASK.long())
    data = DataLoader(data, batch_size=4) if loader else data
    assert (wp.probe(model, data, ["coding_rate"], progress=False).samples == want).all(axis=None)


FURTHER = {
    "a caption": ["a caption"] * 6,
    "a fraction": [0.5] * 6,
    "a dict": [{"box": 1}] * 6,
    "another class": CLASSES.tolist(),
}


@pytest.mark.parametrize("what", FURTHER)
@pytest.mark.parametrize("place", [1, 2])
def test_a_tuple_with_a_further_part_is_refused(what, place):
    rows = list(zip(IDS, CLASSES.tolist(), strict=True))
    rows = [
        (*row[:place], part, *row[place:]) for row, part in zip(rows, FURTHER[what], strict=True)
    ]
    for data in (rows, DataLoader(rows, batch_size=3)):
        with pytest.raises(DataError, match=r"tuple of 3 parts that are not understood") as error:
            read(open_data(data))
        assert "\n" not in str(error.value)


def test_two_masks_are_refused():
    with pytest.raises(DataError, match="it holds two masks"):
        read(open_data(TensorDataset(IDS, MASK, MASK)))


def test_a_mask_without_numbers_is_told():
    data = {"input_ids": IDS, "attention_mask": torch.ones(IDS.shape, device="meta")}
    with pytest.raises(DataError, match="'attention_mask' of sample 0 .*cannot be read"):
        wp.probe("gpt2-tiny-kjv", data, ["l0"], progress=False)


@pytest.mark.parametrize("make", [torch.Tensor.numpy, torch.Tensor.clone], ids=["array", "tensor"])
def test_ids_of_a_type_that_the_model_takes_not_are_told(make):
    ids = make(IDS.to(torch.uint64))
    with pytest.raises(ProbeError, match="cannot take an input of shape|forward pass .* failed"):
        wp.probe("gpt2-tiny-kjv", {"input_ids": ids}, ["l0"], progress=False)


@pytest.mark.parametrize("value", ["x", b"x", ..., {"a": 1}, 1.5, True], ids=repr)
def test_a_mask_that_is_no_column_is_told(value):
    """It was passed over, and padding was measured."""
    with pytest.raises(DataError, match="'attention_mask' of a dict is no mask"):
        wp.probe("gpt2-tiny-kjv", {"input_ids": IDS, "attention_mask": value}, ["l0"])
    assert open_data({"input_ids": IDS, "attention_mask": None, "about": "x"}).count == len(IDS)


@pytest.mark.parametrize("key", ["pad_token_id", "padding", "mask_ratio", "notepad", "mask_token"])
def test_what_stands_beside_the_columns_is_no_mask_by_a_part_of_its_name(key):
    for value in (3, "max_length", 0.75, np.array(1.0)):
        assert open_data({"input_ids": IDS, key: value}).count == len(IDS)


def _meta(rows):
    return rows.to("meta")


ODD = {
    "meta": (_meta, "cannot be read"),
    "sparse": (torch.Tensor.to_sparse, "cannot be read"),
    "texts": (lambda rows: ["a"] * len(rows), "cannot be read"),
    "structured": (lambda rows: np.zeros(tuple(rows.shape), [("a", "i4")]), "cannot be read"),
    "one a sample": (lambda rows: np.arange(1, 1 + len(rows)), "of its own|second segment"),
    "large": (lambda rows: [[10**30] * rows.shape[1]] * len(rows), "cannot be read"),
    "no numbers": (lambda rows: rows * torch.nan, "of its own|second segment"),
}


@pytest.mark.parametrize("key", ["position_ids", "token_type_ids"])
@pytest.mark.parametrize("case", ODD)
def test_what_stands_beside_ids_and_cannot_be_read_is_told(case, key):
    make, told = ODD[case]
    with pytest.raises(DataError, match=f"'?{key}'?.*({told})|({told}).*'{key}'"):
        read(open_data({"input_ids": IDS, key: make(MASK.long())}))


@pytest.mark.parametrize(
    "make",
    [
        torch.Tensor.bfloat16,
        lambda t: t.to(torch.float8_e4m3fn),
        lambda t: t.to(torch.uint16),
        lambda t: t.to(torch.uint64),
        lambda t: t.numpy().astype(np.uint32),
        lambda t: t.numpy().astype(">u2"),
        lambda t: t.numpy().astype(np.longdouble),
        lambda t: t.long().numpy().astype(object),
        lambda t: t.flip(1).numpy()[:, ::-1],
        lambda t: np.frombuffer(t.numpy().tobytes(), np.float32).reshape(t.shape),
    ],
)
def test_plain_positions_and_segments_of_any_type_are_passed_over(make):
    counts = torch.arange(16).expand(6, 16).float()
    data = {"input_ids": IDS, "position_ids": make(counts), "token_type_ids": make(counts * 0)}
    assert torch.cat([batch.inputs for batch in read(open_data(data))[0]]).equal(IDS)


def test_segments_of_several_lengths_in_a_batch_are_read_row_by_row():
    batch = {"input_ids": IDS.tolist(), "token_type_ids": [[0] * n for n in range(6)]}
    assert len(read(open_data(DataLoader([batch], batch_size=None)))[0]) == 1
    batch["token_type_ids"][4] = [0, 1]
    with pytest.raises(DataError, match="second segment"):
        read(open_data(DataLoader([batch], batch_size=None)))


@pytest.mark.parametrize(
    "make",
    [_meta, torch.Tensor.to_sparse, lambda row: [10**30] * len(row)],
    ids=["meta", "sparse", "large"],
)
def test_a_part_without_a_name_that_cannot_be_read_is_told(make):
    pairs = [(ids, make(mask.long())) for ids, mask in zip(IDS, MASK, strict=True)]
    with pytest.raises(DataError, match="beside the input of sample 0 of list cannot be read"):
        read(open_data(pairs))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
def test_a_column_without_a_length_is_told():
    nested = torch.nested.nested_tensor([torch.ones(n + 1) for n in range(6)])
    with pytest.raises(DataError, match="'other' of a dict has no length"):
        open_data({"input_ids": IDS, "other": nested})


@pytest.mark.parametrize("shape", [(4, 3, 0, 12), (4, 3, 12, 0), (4, 0, 12, 12)])
@pytest.mark.parametrize("loader", [False, True])
def test_inputs_without_a_number_are_told(shape, loader):
    data = torch.zeros(shape)
    with pytest.raises(DataError, match=r"sample 0 of .* holds no numbers: its shape is"):
        read(open_data(DataLoader(data) if loader else data))
