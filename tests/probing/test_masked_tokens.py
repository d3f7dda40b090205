"""A token that its mask leaves out is part of nothing: measures, fits, similarities, attention."""

import pytest
import torch
from torch.utils.data import TensorDataset

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError
from whitebox_probe.metrics.similarity import cka
from whitebox_probe.models.families.crate_gpt import CrateGPT
from whitebox_probe.probing import padding

transformers = pytest.importorskip("transformers")
G = torch.Generator().manual_seed(0)
IDS = torch.randint(5, 96, (40, 16), generator=G)
MASK = torch.ones(40, 16, dtype=torch.bool)
MASK[:, 0] = False
for each in range(40):
    MASK[each, 16 - each % 9 :] = False
JUNK = torch.where(MASK, IDS, torch.randint(5, 96, (40, 16), generator=G))


def gpt(seed=0, sizes=None):
    torch.manual_seed(seed)
    net = CrateGPT(vocabulary=256, block_size=16, dim=16, depth=2, heads=2)
    return wp.wrap(net, name=f"gpt-{seed}")


def small(kind, seed=0, **more):
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64, **more
        )
        net = transformers.GPT2Model(config)
    else:
        sizes = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2}
        sizes |= {"num_attention_heads": 4, "intermediate_size": 64}
        sizes |= {"max_position_embeddings": 64}
        config = transformers.CONFIG_MAPPING[kind](**(sizes | more))
        net = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return wp.wrap(net.eval(), name=f"{kind}-{seed}")


def features(model, ids, mask):
    with wp.record(model, ["z_out"]) as record, torch.inference_mode():
        model.module(ids)
    Z = record["z_out", 2].double()
    return torch.stack([row[kept].mean(dim=0) for row, kept in zip(Z, mask, strict=True)])


@pytest.mark.parametrize("batch_size", [7, 40])
def test_similarity_is_of_measured_tokens(batch_size):
    data = TensorDataset(IDS, MASK)
    found = wp.similarity(gpt(), gpt(1), data, batch_size=batch_size, progress=False)
    both = [features(model, IDS, MASK) for model in (gpt(), gpt(1))]
    assert found.cka[1, 1] == pytest.approx(float(cka(*both)), rel=1e-4)
    alone = wp.similarity(gpt(), gpt(1), IDS, progress=False)
    assert abs(found.cka[1, 1] - alone.cka[1, 1]) > 1e-3


@pytest.mark.parametrize("basis", ["pca", "pca:clusters"])
def test_what_stands_behind_the_measured_tokens_moves_nothing(basis):
    """Of a causal model, the ids of masked tokens at the end reach no measured one."""
    ends = MASK.clone()
    ends[:, 0] = True
    junk = torch.where(ends, IDS, JUNK)
    found = []
    for ids, batch_size in ((IDS, 8), (junk, 8), (IDS, 40)):
        data = TensorDataset(ids, ends)
        options = {"progress": False, "batch_size": batch_size}
        probed = wp.probe(gpt(), data, ["compression"], basis=basis, fit_data=data, **options)
        alike = wp.similarity(gpt(), gpt(1), data, **options)
        found.append((torch.tensor(probed.samples.to_numpy()), torch.tensor(alike.cka)))
    for values, alike in found[1:]:
        torch.testing.assert_close(values, found[0][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(alike, found[0][1], rtol=1e-5, atol=1e-6)


def padded(left, right, pad=0):
    ids = torch.full((6, left + 12 + right), pad)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    ids[:, left : left + 12] = IDS[:6, :12]
    mask[:, left : left + 12] = True
    return TensorDataset(ids, mask)


@pytest.mark.parametrize("kind", ["gpt2", "bert", "llama", "roberta"])
@pytest.mark.parametrize(("left", "right"), [(0, 4), (1, 0), (4, 0), (3, 2)])
def test_padding_is_neither_attended_to_nor_counted(kind, left, right):
    pad = 1 if kind == "roberta" else 0
    model = small(kind, pad_token_id=pad)
    options = {"progress": False, "batch_size": 4}
    want = wp.probe(model, padded(0, 0), ["coding_rate"], **options)
    got = wp.probe(model, padded(left, right, pad), ["coding_rate"], **options)
    torch.testing.assert_close(
        torch.tensor(got.samples.to_numpy()),
        torch.tensor(want.samples.to_numpy()),
        rtol=1e-5,
        atol=0,
    )


def rates(model, data):
    found = wp.probe(model, data, ["coding_rate"], progress=False, batch_size=4).samples
    return torch.tensor(found.to_numpy())


def expect_unpadded(model, left, right, pad):
    want, got = rates(model, padded(0, 0)), rates(model, padded(left, right, pad))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "roberta"])
@pytest.mark.parametrize(("left", "right"), [(0, 4), (2, 0), (5, 0), (3, 2)])
def test_padding_is_told_by_its_mask_whatever_its_id(kind, left, right):
    """As of tokenizer.pad_token = tokenizer.eos_token, with another id in the configuration."""
    expect_unpadded(small(kind, pad_token_id=0), left, right, 2)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("left", [1, 2, 3])
def test_padding_is_known_where_no_id_of_it_is_stated(kind, left):
    model = small(kind)
    assert model.module.config.pad_token_id is None
    expect_unpadded(model, left, 0, 0)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {"eos_token_id": 2}),
        ("llama", {"eos_token_id": [3, 2], "pad_token_id": 0}),
        ("gpt2", {"eos_token_id": 2, "bos_token_id": 2}),
    ],
)
def test_what_ends_texts_pads_by_itself(kind, more):
    expect_unpadded(small(kind, **more), 1, 0, 2)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {"bos_token_id": 1, "eos_token_id": 2}),
        ("llama", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}),
        ("gpt2", {"pad_token_id": 0}),
        ("bert", {}),
    ],
)
def test_a_first_token_that_is_no_padding_is_attended_to(kind, more):
    model, (ids, mask) = small(kind, **more), padded(1, 0, 1).tensors
    assert padding.arguments(model, ids, mask, ["z_out"]) == {}
    assert not torch.allclose(rates(model, padded(1, 0, 1)), rates(model, padded(0, 0)))


def test_windows_of_several_lengths_in_one_batch():
    model = small("bert", pad_token_id=0)
    ids, mask = IDS.clone(), torch.ones(40, 16, dtype=torch.bool)
    for i in range(40):
        ids[i, : i % 5], mask[i, : i % 5] = 0, False
    data = TensorDataset(ids, mask)
    found = [
        wp.probe(model, data, ["coding_rate"], progress=False, batch_size=n).samples
        for n in (1, 40)
    ]
    torch.testing.assert_close(*(torch.tensor(f.to_numpy()) for f in found), rtol=1e-5, atol=0)


def test_models_that_take_no_mask_refuse_padding_on_the_left():
    with pytest.raises(DataError, match=r"padding cannot be given to gpt-0: it takes no attention"):
        wp.probe(gpt(), padded(4, 0), ["l0"], progress=False)
    with pytest.raises(DataError, match="padding cannot be given"):
        wp.similarity(gpt(), gpt(1), padded(4, 0), progress=False)
    wp.probe(gpt(), padded(0, 4), ["l0"], progress=False)  # causal: nothing attends to it


def test_attention_maps_of_padded_windows_are_refused():
    with pytest.raises(DataError, match="attention maps are read without an attention mask"):
        wp.probe(small("bert", pad_token_id=0), padded(4, 0), ["attention_entropy"], progress=False)


def test_special_tokens_are_attended_to_though_they_are_not_measured():
    ids = torch.tensor([[101, 7, 8, 9, 102, 0, 0], [101, 7, 8, 102, 5, 6, 0]])
    mask = torch.tensor([[0, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 1, 0]]).bool()
    left, right = padding.padding_of(ids, mask, 0)
    assert not left.any()
    assert right.int().tolist() == [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0, 1]]
    left, right = padding.padding_of(ids, mask, None)
    assert not left.any()
    assert right.int().tolist() == [[0, 0, 0, 0, 0, 1, 1], [0] * 7]


def test_a_sample_without_a_token_has_no_similarity():
    nothing = MASK.clone()
    nothing[3] = False
    with pytest.raises(DataError, match="sample 3 has no token to measure"):
        wp.similarity(gpt(), gpt(1), TensorDataset(IDS, nothing), progress=False)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_the_class_token_of_a_window_is_behind_its_padding(kind):
    """Left out with class_token=False, wherever padding has shifted it to."""
    model = small(kind, pad_token_id=1)
    ids, mask = IDS[:6, :12].clone(), torch.ones(6, 12, dtype=torch.bool)
    ids[:, 0] = 3
    data = {}
    for row in range(6):
        ids[row, 12 - row :], mask[row, 12 - row :] = 1, False
    data["right"] = TensorDataset(ids, mask)
    left = [torch.stack([torch.roll(x[row], row) for row in range(6)]) for x in (ids, mask)]
    data["left"] = TensorDataset(*left)
    curves = {}
    for side, each in data.items():
        result = wp.probe(
            model, each, ["coding_rate", "l0"], class_token=False, batch_size=4, progress=False
        )
        curves[side] = result.samples.to_numpy()
        assert result.run["tokens"] == 11
    assert curves["left"] == pytest.approx(curves["right"], rel=1e-4)


def test_pooling_by_a_class_token_finds_it_behind_the_padding():
    model = small("bert", pad_token_id=1)
    ids, mask = IDS[:8, :12].clone(), torch.ones(8, 12, dtype=torch.bool)
    ids[:, 0] = 3
    for row in range(8):
        ids[row, 12 - row % 4 :], mask[row, 12 - row % 4 :] = 1, False
    left = [torch.stack([torch.roll(x[r], r % 4) for r in range(8)]) for x in (ids, mask)]
    labels = torch.arange(8) % 2
    found = []
    for each in ([ids, mask], left):
        data = TensorDataset(each[0], labels, each[1])
        measure = wp.metrics.ClassRate(eps=0.5, pool="class")
        found.append(wp.probe(model, data, measure, batch_size=3, progress=False).frame["mean"])
    assert found[0].tolist() == pytest.approx(found[1].tolist(), rel=1e-3)
    mask[:, 0] = False
    data = TensorDataset(ids, labels, mask)
    with pytest.raises(DataError, match="class token of some samples is left out"):
        wp.probe(model, data, wp.metrics.ClassRate(eps=0.5, pool="class"), progress=False)
