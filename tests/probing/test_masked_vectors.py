"""A mask beside vectors, or ids of a network that a user mapped: told to it, and in no measure."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe.data.text import TextWindows
from whitebox_probe.metrics import functional as F
from whitebox_probe.probing.means import mean_updates

G = torch.Generator().manual_seed(0)
X = torch.randn(4, 6, 8, generator=G)
KEEP = torch.arange(6) < 4
MASKS = KEEP.expand(4, 6)
IDS = torch.randint(0, 20, (4, 6), generator=G)
SITES = {"z_in": "layers.{layer}:input", "z_out": "layers.{layer}:output"}


class Mixing(nn.Module):
    """A layer whose tokens each add the mean of those that are kept."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(8, 8)

    def forward(self, z, keep):
        share = keep[..., None].to(z) / keep.sum(dim=1)[:, None, None]
        return z + self.map((z * share).sum(dim=1, keepdim=True))


class Net(nn.Module):
    def __init__(self, ids=False):
        super().__init__()
        self.embed = nn.Embedding(256, 8) if ids else nn.Linear(8, 8)
        self.layers = nn.ModuleList(Mixing() for _ in range(2))

    def run(self, inputs, keep=None):
        z = self.embed(inputs)
        for layer in self.layers:
            z = layer(z, torch.ones(z.shape[:2]) if keep is None else keep)
        return z


class OfX(Net):
    def forward(self, x, attention_mask=None):
        return self.run(x, attention_mask)


class OfTokens(Net):
    def forward(self, tokens, attention_mask=None):
        return self.run(tokens, attention_mask)


class OfZ(Net):
    def forward(self, z, attention_mask=None):
        return self.run(z, attention_mask)


class OfPixels(Net):
    def forward(self, pixel_values, attention_mask=None):
        return self.run(pixel_values, attention_mask)


class Hidden(Net):
    def forward(self, tokens, key_padding_mask=None):
        return self.run(tokens, None if key_padding_mask is None else ~key_padding_mask)


class Source(Net):
    def forward(self, src, mask=None, src_key_padding_mask=None):
        return self.run(src, None if src_key_padding_mask is None else ~src_key_padding_mask)


class Masked(Net):
    def forward(self, tokens, mask=None):
        return self.run(tokens, mask)


class Reversed(Net):
    def forward(self, tokens, mask=None):
        return self.run(tokens, None if mask is None else ~mask)


class Deaf(Net):
    def forward(self, x, attention_mask=None):
        return self.run(x)


class Maskless(Net):
    def forward(self, tokens):
        return self.run(tokens)


def windows(kind):
    """The network, of windows of six tokens alone."""

    class Windows(kind):
        def run(self, inputs, keep=None):
            if inputs.shape[1] != 6:
                raise ValueError("it takes six tokens")
            return super().run(inputs, keep)

    return Windows


NAMES = {OfX: "x", OfTokens: "tokens", OfZ: "z", OfPixels: "pixel_values", Source: "src"}


def wrapped(kind, ids=False, **more):
    torch.manual_seed(0)
    return wp.wrap(kind(ids).eval(), name="net", sites=SITES, dim=8, **more)


def norms(model, data, **more):
    return wp.probe(model, data, ["coding_rate"], progress=False, **more).frame["mean"].to_numpy()


def forms(name, key, masks):
    columns = {name: X.numpy(), key: masks.numpy()}
    rows = [{name: x, key: m} for x, m in zip(X, masks, strict=True)]
    return {
        "columns": columns,
        "list": rows,
        "loader": DataLoader(rows, batch_size=3),
        "stream": iter(rows),
        "named": wp.data(columns, mask=key, column=name),
    }


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("form", ["columns", "list", "loader", "stream", "named"])
@pytest.mark.parametrize(
    ("key", "masks"),
    [
        ("attention_mask", MASKS.long()),
        ("key_padding_mask", ~MASKS),
        ("src_key_padding_mask", ~MASKS),
    ],
)
def test_padding_is_told_to_the_model_and_is_in_no_measure(kind, form, key, masks):
    model = wrapped(kind)
    found = norms(model, forms(NAMES[kind], key, masks)[form], batch_size=3)
    assert found == pytest.approx(norms(model, X[:, :4]), rel=1e-5)


@pytest.mark.parametrize("kind", [Hidden, Source, Masked, OfTokens])
def test_ids_are_told_of_by_the_models_own_mask(kind):
    model = wrapped(kind, ids=True)
    rows = [{"input_ids": i, "attention_mask": m} for i, m in zip(IDS, MASKS.long(), strict=True)]
    for data in (rows, iter(rows)):
        assert norms(model, data) == pytest.approx(norms(model, IDS[:, :4]), rel=1e-5)


def test_special_tokens_and_what_is_not_measured_are_attended_to():
    model = wrapped(OfX)
    with wp.record(model, ["z_out"]) as record, torch.no_grad():
        model.module(X)
    want = [F.coding_rate(record["z_out", n][:, :4], eps=0.1).mean() for n in (1, 2)]
    for key, masks in (("mask", MASKS), ("special_tokens_mask", ~MASKS)):
        found = norms(model, {"x": X.numpy(), key: masks.numpy()})
        assert found == pytest.approx([float(each) for each in want], rel=1e-5)


def test_a_similarity_is_of_what_is_no_padding():
    junk = X.clone()
    junk[:, 4:] = 50
    found = [
        wp.similarity(
            wrapped(OfX),
            wrapped(OfTokens),
            {"x": x, "attention_mask": MASKS},
            progress=False,
            rank=1,
        ).cka
        for x in (X, junk)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def line(model, data):
    with pytest.raises(ProbeError) as error:
        norms(model, data)
    told = str(error.value)
    assert "\n" not in told
    assert len(told) < 500
    return told


@pytest.mark.parametrize("key", ["padding_mask", "input_mask", "loss_mask"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_a_mask_of_no_known_meaning_is_refused(key, dtype):
    columns = {"x": X.numpy(), key: MASKS.to(dtype).numpy()}
    rows = [{"x": x, key: m} for x, m in zip(X, MASKS.to(dtype), strict=True)]
    for data in (columns, rows, DataLoader(rows, 2), iter(rows)):
        assert f"wp.data(..., mask='{key}')" in line(wrapped(OfX), data)


PLACES = torch.arange(6)
KEPT = torch.stack([PLACES < 4, PLACES > 0, PLACES < 6, (PLACES > 0) & (PLACES < 4)])
"""Padding behind, in front, nowhere and at both ends."""


@pytest.mark.parametrize("batch_size", [1, 3, 4])
@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("kind", [OfX, Masked, Deaf, Reversed, Maskless])
def test_samples_are_given_without_their_padding_whether_the_model_heeds_a_mask_or_not(
    kind, ids, batch_size
):
    model = wrapped(kind, ids=ids)
    inputs = IDS if ids else X
    alone = [norms(model, x[k][None]) for x, k in zip(inputs, KEPT, strict=True)]
    key = "input_ids" if ids else "x"
    data = {key: inputs.numpy(), "attention_mask": KEPT.numpy()}
    found = wp.probe(model, data, ["coding_rate"], batch_size=batch_size, progress=False)
    for n, want in enumerate(alone):
        np.testing.assert_allclose(found.samples.loc[n], want, rtol=1e-6)
    assert found.run["tokens"] == 6


def test_a_pass_over_samples_without_padding_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    model, data = wrapped(Maskless), {"x": X.numpy(), "attention_mask": KEPT.numpy()}
    whole = wp.probe(model, data, ["coding_rate"], batch_size=2, progress=False)
    from whitebox_probe.probing.state import Saver

    after = Saver.after_batch

    def cut_off(self):
        after(self)
        if self.batches == 1:
            self.save()
            raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "after_batch", cut_off)
    how = {"batch_size": 2, "progress": False, "checkpoint": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        wp.probe(model, data, ["coding_rate"], **how)
    monkeypatch.setattr(Saver, "after_batch", after)
    again = wp.probe(model, data, ["coding_rate"], **how)
    assert again.samples.equals(whole.samples)


def test_a_similarity_of_models_that_are_given_padding_in_two_ways_is_of_the_same_samples():
    of_windows, other = wrapped(windows(OfX)), wrapped(Maskless)
    key = {"attention_mask": KEPT.numpy()}
    heeded = KEPT.clone()
    heeded[1:] = heeded[1:] | (PLACES > 0)  # behind alone, or at no end
    for keep in (KEPT, heeded):
        key = {"x": X.numpy(), "attention_mask": keep.numpy()}
        one, two = (
            wp.similarity(a, other, key, progress=False, rank=1, batch_size=b)
            for a, b in ((of_windows, 4), (wrapped(OfX), 1))
        )
        np.testing.assert_allclose(one.cka, two.cka, rtol=1e-5)


def test_a_mask_that_a_model_of_windows_does_not_take_or_heed_is_refused():
    data = {"x": X.numpy(), "attention_mask": MASKS.numpy()}
    assert "it takes no attention mask" in line(wrapped(windows(Maskless)), data)
    assert "what stands in padding changes its tokens" in line(wrapped(windows(Deaf)), data)
    ids = {"input_ids": IDS, "attention_mask": MASKS}
    assert "heed 'mask', as True (or 1)" in line(wrapped(windows(Reversed), ids=True), ids)
    np.testing.assert_allclose(
        norms(wrapped(windows(OfX)), data), norms(wrapped(OfX), X[:, :4]), rtol=1e-6
    )
    full = {"x": X.numpy(), "attention_mask": torch.ones(4, 6, dtype=torch.int64)}
    assert norms(wrapped(Maskless), full) == pytest.approx(norms(wrapped(Maskless), X))
    measured = {"x": X.numpy(), "mask": MASKS.numpy()}
    assert np.isfinite(norms(wrapped(Maskless), measured)).all()


@pytest.mark.parametrize(
    "wrong", [torch.ones(4, 5), torch.ones(4, 6, 6), 2 * MASKS, MASKS.float(), torch.ones(4, 1)]
)
def test_what_is_no_mask_of_the_vectors_is_refused(wrong):
    for key in ("attention_mask", "mask"):
        assert "no mask of the tokens" in line(wrapped(OfX), {"x": X, key: wrong})


def test_a_mask_of_fractions_is_told_what_to_be():
    model, added = wrapped(OfX), torch.zeros(4, 6).masked_fill(~MASKS, -torch.inf)
    for key in ("attention_mask", "mask"):
        assert "Give it as whole numbers (" in line(model, {"x": X, key: MASKS.float()})
        assert "whole numbers that are 0 or 1" in line(model, {"x": X, key: added})
    found = norms(model, {"x": X, "attention_mask": MASKS.float().long()})
    assert np.isfinite(found).all()


def test_a_mask_without_a_name_is_refused_where_the_model_has_one_of_its_own():
    pairs = list(zip(X, ~MASKS, strict=True))
    for kind in (OfX, OfTokens, Hidden, Source):
        for data in (pairs, DataLoader(pairs, 2), iter(pairs)):
            assert "a mask without a name" in line(wrapped(kind), data)
    of_ids = list(zip(IDS, ~MASKS, strict=True))
    assert "'key_padding_mask' if it is True for padding" in line(wrapped(Hidden, ids=True), of_ids)
    assert np.isfinite(norms(wrapped(Maskless), list(zip(X, MASKS, strict=True)))).all()


@pytest.mark.parametrize("batch_size", [2, 4])
def test_masks_of_two_kinds_are_refused(batch_size):
    keys = ["attention_mask", "attention_mask", "mask", "mask"]
    rows = [{"x": x, key: KEEP} for x, key in zip(X, keys, strict=True)]
    with pytest.raises(DataError, match="Give all samples a mask"):
        norms(wrapped(OfX), rows, batch_size=batch_size)


@pytest.mark.parametrize("example", [None, X[:1]])
@pytest.mark.parametrize("kind", [OfTokens, OfX, OfZ])
def test_a_stream_of_vectors_is_of_samples(kind, example):
    model = wrapped(kind, example=example)
    want = norms(model, X)
    name = NAMES[kind]
    for make in (
        lambda x: x,
        lambda x: (x, 1),
        lambda x: {name: x},
        lambda x: x.numpy(),
        lambda x: {name: x, "attention_mask": torch.ones(6, dtype=torch.int64)},
    ):
        assert norms(model, (make(x) for x in X)) == pytest.approx(want, rel=1e-5)


def test_batches_of_a_stream_are_told_by_the_example():
    model = wrapped(OfTokens, example=X[:1])
    assert norms(model, (X[n : n + 2] for n in (0, 2))) == pytest.approx(norms(model, X))


@pytest.mark.parametrize("size", [None, 2])
def test_a_mask_tells_a_sample_from_a_batch(size):
    columns = {"x": X, "attention_mask": MASKS}
    some = range(4) if size is None else [slice(0, 2), slice(2, 4)]
    rows = [{key: each[n] for key, each in columns.items()} for n in some]
    for data in (iter(rows), DataLoader(rows, batch_size=None)):
        assert norms(wrapped(OfX), data) == pytest.approx(norms(wrapped(OfX), columns))


def test_windows_of_a_text_are_pairs_whose_mask_is_known():
    windows = TextWindows("and it came to pass", length=6)
    data = {"input_ids": windows.ids, "mask": windows.mask}
    model = wrapped(Hidden, ids=True)
    for given in (windows, DataLoader(windows, 2)):
        assert norms(model, given) == pytest.approx(norms(model, data))


def test_masks_of_a_caption_and_segmentations_stand_beside_images_as_before():
    model = wp.load("crate-tiny-fmnist")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    want = norms(model, {"image": pixels})
    ones = np.ones((4, 28, 28), bool)
    caption = {"input_ids": IDS.numpy(), "attention_mask": MASKS.numpy()}
    for more in ({"mask": ones}, {"segmentation_mask": ones}, caption):
        assert norms(model, {"image": pixels, **more}) == pytest.approx(want)
    row = {"image": pixels, "padding_mask": MASKS.numpy()}
    assert "wp.data(..., mask='padding_mask')" in line(model, row)


def test_measures_of_other_sites_are_the_remedy_where_maps_are_refused():
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 20, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}
    model = wp.wrap(transformers.GPT2Model(transformers.GPT2Config(**sizes)).eval())
    data = {"input_ids": IDS, "attention_mask": ~(torch.arange(6) < 2).expand(4, 6)}
    with pytest.raises(DataError, match="Leave the measures of attention maps out"):
        wp.probe(model, data, ["attention_entropy"], progress=False)
    assert np.isfinite(norms(model, data)).all()


class Both(nn.Module):
    """An encoder that attends both ways beside a decoder that says it is causal."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(256, 8)
        self.layers = nn.ModuleList(Mixing() for _ in range(2))
        self.decoder = nn.Identity()
        self.decoder.is_causal = True

    def forward(self, input_ids, **more):
        z = self.embed(input_ids)
        for layer in self.layers:
            z = layer(z, more.get("attention_mask", torch.ones(z.shape[:2])))
        return self.decoder(z)


class Told(Both):
    def forward(self, input_ids, attention_mask=None):
        return super().forward(
            input_ids, **({} if attention_mask is None else {"attention_mask": attention_mask})
        )


class Untold(Both):
    def forward(self, input_ids):
        return super().forward(input_ids)


def test_a_causal_part_beside_the_mapped_layers_hides_no_padding():
    torch.manual_seed(0)
    rows = [{"input_ids": i, "attention_mask": KEEP.long()} for i in IDS]
    model = wp.wrap(Told().eval(), name="net", sites=SITES, dim=8)
    np.testing.assert_allclose(norms(model, rows), norms(model, IDS[:, :4]), rtol=1e-6)
    model = wp.wrap(Untold().eval(), name="net", sites=SITES, dim=8)
    np.testing.assert_allclose(norms(model, rows), norms(model, IDS[:, :4]), rtol=1e-6)


@pytest.mark.parametrize("kind", [Deaf, Reversed])
def test_padding_that_looks_like_what_is_kept_is_tried_all_the_same(kind):
    name, key = ("x", "attention_mask") if kind is Deaf else ("tokens", "mask")
    like = torch.where(KEEP[:, None], X, X[:, :1])
    data = wp.data({name: like.numpy(), "attention_mask": MASKS.numpy()})
    with pytest.raises(DataError, match=f"though its '{key}' says where that is"):
        norms(wrapped(windows(kind)), data)


@pytest.mark.parametrize("site", ["attn_out", "mlp_hidden"])
def test_it_is_tried_at_other_sites_where_no_stream_is_mapped(site):
    torch.manual_seed(0)
    sites = {site: "layers.{layer}:output"}
    model = wp.wrap(windows(Deaf)().eval(), name="net", sites=sites, dim=8)
    data = {"x": X.numpy(), "attention_mask": MASKS.numpy()}
    with pytest.raises(DataError, match="what stands in padding changes its tokens"):
        wp.probe(model, data, ["hoyer"], sites={"hoyer": site}, progress=False)


class Normed(Deaf):
    """What attends to padding behind a norm, which takes off what all directions share."""

    def run(self, inputs, keep=None):
        return super().run(nn.functional.layer_norm(inputs, (8,)), keep)


class Positive(Deaf):
    """What takes no negative numbers, and attends to padding."""

    def run(self, inputs, keep=None):
        return super().run(inputs.log1p(), keep)


class Faint(Deaf):
    """What adds little of padding to its tokens."""

    def run(self, inputs, keep=None):
        for layer in self.layers:
            layer.map.weight.data *= 1e-6
        return super().run(inputs, keep)


class Huge(Deaf):
    """What makes one of its tokens, which no norm hides, many times as large as others."""

    def run(self, inputs, keep=None):
        return super().run(inputs, keep) * torch.tensor([1e6, 1, 1, 1, 1, 1])[:, None]


class Pairs(Mixing):
    """A layer whose tokens each add the mean of those that they attend to, by (n, n)."""

    def forward(self, z, heeded):
        return z + self.map(heeded @ z / heeded.sum(dim=-1, keepdim=True))


class Wide(Net):
    """What takes its mask for one of pairs of tokens."""

    def __init__(self, ids=False):
        super().__init__(ids)
        self.layers = nn.ModuleList(Pairs() for _ in range(2))

    def forward(self, x, mask=None):
        n = x.shape[1]
        return self.run(x, torch.ones(n, n) if mask is None else mask.float().expand(n, n))


@pytest.mark.parametrize("fill", [0.0, 1e8, 100.0])
@pytest.mark.parametrize("kind", [Normed, Deaf, Positive, Faint, Huge])
def test_whatever_padding_adds_to_a_token_is_seen(kind, fill):
    padded = X.abs().masked_fill(~KEEP[:, None], fill)
    data = {"x": padded.numpy(), "attention_mask": MASKS.numpy()}
    with pytest.raises(DataError, match="though its 'attention_mask' says where that is"):
        norms(wrapped(windows(kind)), data)


def test_each_batch_with_padding_is_tried_whole():
    rows = torch.randn(6, 6, 8, generator=torch.Generator().manual_seed(1))
    keep = torch.tensor([5, 3, 4, 5, 2, 3])[:, None] > PLACES
    data = {"x": rows.numpy(), "attention_mask": keep.numpy()}
    with pytest.raises(DataError, match="what stands in padding changes"):
        norms(wrapped(windows(Wide)), data, batch_size=6)

    class Behind(Net):
        """What heeds padding behind samples alone."""

        def forward(self, x, attention_mask=None):
            n = x.shape[1]
            length = n if attention_mask is None else attention_mask.sum(dim=1)[:, None]
            return self.run(x, (torch.arange(n) < length).expand(x.shape[:2]))

    keep = torch.stack([PLACES < 4, PLACES < 5, PLACES < 3, PLACES > 0])
    data = {"x": X.numpy(), "attention_mask": keep.numpy()}
    for size in (1, 4):
        with pytest.raises(DataError, match="what stands in padding changes"):
            norms(wrapped(windows(Behind)), data, batch_size=size)
        alone = norms(wrapped(OfX), data)
        np.testing.assert_allclose(norms(wrapped(Behind), data, batch_size=size), alone, rtol=1e-6)


@pytest.mark.parametrize("nested", [True, False])
def test_an_encoder_of_torch_with_its_fast_path_is_measured_behind_padding_and_in_front(nested):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = wp.wrap(nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested).eval())
    data = {"x": X.numpy(), "attention_mask": KEPT.numpy()}
    want = [norms(model, x[k][None]) for x, k in zip(X, KEPT, strict=True)]
    np.testing.assert_allclose(norms(model, data), np.mean(want, axis=0), rtol=1e-6)


def test_a_sample_that_overflows_hides_no_other():
    large = X.abs()
    large[0] = 1e38
    data = {"x": large.numpy(), "attention_mask": MASKS.numpy()}
    with pytest.raises(DataError, match="what stands in padding changes"):
        norms(wrapped(windows(Deaf)), data, nonfinite="drop")


def test_positions_of_windows_of_one_length_are_not_taken_on_trust():
    class Counts(Net):
        def forward(self, tokens, attention_mask=None, position_ids=None):
            return self.run(tokens, attention_mask)

    keep = (PLACES > 1).expand(4, 6)
    data = {"input_ids": IDS, "attention_mask": keep}
    assert "may shift its positions" in line(wrapped(windows(Counts), ids=True), data)
    found = norms(wrapped(Counts, ids=True), data)
    np.testing.assert_allclose(found, norms(wrapped(Counts, ids=True), IDS[:, 2:]), rtol=1e-6)


def test_what_is_left_out_in_the_midst_is_told_by_the_mask():
    keep = (PLACES != 2).expand(4, 6)
    data = {"x": X.numpy(), "attention_mask": keep.numpy()}
    found = norms(wrapped(OfX), data)
    np.testing.assert_allclose(found, norms(wrapped(OfX), X[:, PLACES != 2]), rtol=1e-6)
    with pytest.raises(DataError, match="what stands in padding changes"):
        norms(wrapped(Deaf), data)


class Boolean(Net):
    def forward(self, x, attention_mask=None):
        return self.run(x, None if attention_mask is None else attention_mask & (x[..., 0] < 99))

    def run(self, inputs, keep=None):
        if keep is not None and keep.dtype != torch.bool:
            raise TypeError("a boolean mask is needed")
        return super().run(inputs, keep)


class Needed(Net):
    def forward(self, x, attention_mask):
        return self.run(x, attention_mask)


class NeededIds(Net):
    """What needs its mask, of ids."""

    def forward(self, input_ids, attention_mask):
        return self.run(input_ids, attention_mask)


def test_what_a_model_takes_its_mask_for_is_said_and_one_that_it_needs_is_given():
    data = {"x": X.numpy(), "attention_mask": MASKS.numpy()}
    with pytest.raises(DataError, match=r"fails where it is given 'attention_mask' of torch.int64"):
        norms(wrapped(windows(Boolean)), data)
    np.testing.assert_allclose(norms(wrapped(Boolean), data), norms(wrapped(OfX), data), rtol=1e-6)
    whole = {"x": X.numpy(), "attention_mask": np.ones_like(MASKS.numpy())}
    np.testing.assert_allclose(norms(wrapped(Needed), whole), norms(wrapped(OfX), X), rtol=1e-6)
    np.testing.assert_allclose(norms(wrapped(Needed), data), norms(wrapped(OfX), data), rtol=1e-6)
    rows = [{"input_ids": i, "attention_mask": KEEP.long()} for i in IDS]
    model = wp.wrap(NeededIds(True).eval(), name="net", sites=SITES, dim=8, causal=True)
    np.testing.assert_allclose(norms(model, rows), norms(model, IDS[:, :4]), rtol=1e-6)


def test_the_mean_update_of_vectors_is_of_places_behind_padding():
    sites = SITES | {"attn_out": "layers.{layer}.map:output", "attn_in": "layers.{layer}:input"}
    torch.manual_seed(0)

    class Own(Net):
        def forward(self, x, attention_mask=None):
            z = self.embed(x)
            for layer in self.layers:
                z = z + layer.map(z)
            return z

    model = wp.wrap(Own().eval(), name="net", sites=sites, dim=8)
    lengths = (3, 6, 4, 5)
    made = []
    for size in (1, 2, 4):
        rows = [x[:n] for x, n in zip(X, lengths, strict=True)]
        batches = []
        for i in range(0, 4, size):
            most = max(map(len, rows[i : i + size]))
            pads = [most - len(row) for row in rows[i : i + size]]
            some = [
                nn.functional.pad(r, (0, 0, p, 0)) for r, p in zip(rows[i:], pads, strict=False)
            ]
            keep = [torch.arange(most) >= p for p in pads]
            batches.append({"x": torch.stack(some), "attention_mask": torch.stack(keep)})
        loader = DataLoader(batches, batch_size=None)
        made.append(mean_updates(model, loader, limit=None).of)
    for other in made[1:]:
        for n, mean in made[0].items():
            torch.testing.assert_close(other[n][: len(mean)], mean)


@pytest.mark.parametrize("key", ["masks", "mask_of_padding", "padding", "is_pad", "Padding_Mask"])
def test_a_mask_of_no_known_meaning_is_refused_beside_vectors(key):
    for x in (X, (X > 0).long()):
        with pytest.raises(DataError, match=f"holds '{key}': whether it is True for padding"):
            norms(wrapped(OfInts), {"x": x.numpy(), key: MASKS.numpy()})


class OfInts(Net):
    def forward(self, x, attention_mask=None):
        return self.run(x.float(), attention_mask)


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool, torch.float32])
@pytest.mark.parametrize("reverse", [True, False])
def test_a_mask_without_a_name_is_refused_beside_vectors_of_any_numbers(kind, reverse):
    pairs = [(x.to(kind), m ^ reverse) for x, m in zip((X > 0).long(), MASKS, strict=True)]
    with pytest.raises(DataError, match="a mask without a name beside its input"):
        norms(wrapped(OfInts), pairs)


def test_a_view_is_of_samples_of_one_length_without_their_padding():
    model = wrapped(Maskless)
    found = wp.view(model, {"x": X.numpy(), "attention_mask": MASKS.numpy()}, sites=["z_out"])
    alone = wp.view(model, X[:, :4], sites=["z_out"])
    np.testing.assert_allclose(found.sites["z_out", 2], alone.sites["z_out", 2], rtol=1e-6)
    with pytest.raises(DataError, match="of several lengths"):
        wp.view(model, {"x": X.numpy(), "attention_mask": KEPT.numpy()}, sites=["z_out"])


class Classed(Maskless):
    """What puts a class token in front of its tokens."""

    def run(self, inputs, keep=None):
        z = self.embed(inputs)
        z = torch.cat([torch.ones(len(z), 1, 8), z], dim=1)
        for layer in self.layers:
            z = layer(z, torch.ones(z.shape[:2]))
        return z


class Frames(Maskless):
    """What makes one token of two frames."""

    def run(self, inputs, keep=None):
        return super().run(inputs[:, ::2] + inputs[:, 1::2], None)


class Padding(OfX):
    """What pads to six tokens by itself."""

    def run(self, inputs, keep=None):
        missing = 6 - inputs.shape[1]
        keep = torch.ones(inputs.shape[:2]) if keep is None else keep
        return super().run(
            nn.functional.pad(inputs, (0, 0, 0, missing)), nn.functional.pad(keep, (0, missing))
        )


@pytest.mark.parametrize("kind", [Classed, Frames])
def test_layers_may_have_other_tokens_than_a_sample_has(kind):
    model, keep = wrapped(kind), KEPT[[0, 2, 0, 2]]
    want = [norms(model, x[k][None]) for x, k in zip(X, keep, strict=True)]
    found = norms(model, {"tokens": X.numpy(), "attention_mask": keep.numpy()})
    np.testing.assert_allclose(found, np.mean(want, axis=0), rtol=1e-6)


def test_tokens_that_a_module_adds_as_padding_are_in_no_measure():
    data = {"x": X.numpy(), "attention_mask": MASKS.numpy()}
    np.testing.assert_allclose(norms(wrapped(Padding), data), norms(wrapped(OfX), data), rtol=1e-6)


def test_maps_of_tokens_alone_are_measured_without_padding():
    class Maps(Maskless):
        def __init__(self, ids=False):
            super().__init__(ids)
            self.maps = nn.ModuleList(nn.Identity() for _ in range(2))

        def run(self, inputs, keep=None):
            z = self.embed(inputs)
            for maps in self.maps:
                z = z + maps((z @ z.mT).softmax(dim=-1)[:, None])[:, 0] @ z
            return z

    torch.manual_seed(0)
    sites = {"attn_weights": "maps.{layer}:output"}
    model = wp.wrap(Maps().eval(), name="net", sites=sites, dim=8)

    def entropy(data):
        return wp.probe(model, data, ["attention_entropy"], progress=False).frame["mean"].to_numpy()

    want = [entropy(x[k][None]) for x, k in zip(X, KEPT, strict=True)]
    found = entropy({"tokens": X.numpy(), "attention_mask": KEPT.numpy()})
    np.testing.assert_allclose(found, np.mean(want, axis=0), rtol=1e-6)


def test_a_class_token_that_was_not_told_of_is_not_said_to_be_left_out():
    model, said = wrapped(Classed), "class_token=False leaves no token of net out"
    with pytest.warns(UserWarning, match=said):
        norms(model, X, class_token=False)
    with pytest.warns(UserWarning, match=said):
        wp.probe(model, X, [wp.Request("coding_rate", class_token=False)], progress=False)
    with pytest.warns(UserWarning, match=said):
        wp.audit(model, X, null=False, class_token=False, robustness=False, progress=False)
    for count, more in ((0, {}), (1, {"class_token": 0})):
        model = wrapped(Classed, prefix_tokens=count, **more)
        assert np.isfinite(norms(model, X, class_token=False)).all()


@pytest.mark.parametrize("key", ["padding_mask", "pad", "src_mask", "Attention_Mask"])
@pytest.mark.parametrize("shape", [(6, 1), (1, 6), (1, 1, 6), (6, 6)])
def test_a_mask_with_more_axes_is_not_passed_over(key, shape):
    masks = torch.ones(4, *shape, dtype=torch.bool)
    rows = [{"x": x, key: m} for x, m in zip(X, masks, strict=True)]
    for data in ({"x": X.numpy(), key: masks.numpy()}, rows):
        assert f"holds '{key}'" in line(wrapped(OfX), data)


def test_a_mask_with_gradients_is_told_in_one_line():
    soft = torch.ones(4, 6, requires_grad=True)
    for key in ("attention_mask", "mask"):
        assert "no mask of the tokens" in line(wrapped(OfX), {"x": X, key: soft})
    ids = {"input_ids": IDS, "token_type_ids": soft}
    assert "second segment" in line(wrapped(OfX, ids=True), ids)
