"""Neither the side that windows are padded on nor the size of batches moves a number."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import whitebox_probe as wp
from tests.probing.test_masked_tokens import small
from whitebox_probe.probing.means import mean_updates, with_means

G = torch.Generator().manual_seed(1)
TEXTS = [(torch.randint(5, 96, (n,), generator=G), n % 2) for n in (3, 9, 5, 4, 9, 7)]
OF_UPDATES = ["attention_rate_change_mean", "attention_rate_change_shared", "descent_cosine_mean"]
OF_UPDATES += ["attention_rate_change_shuffled", "attention_rate_change", "descent_cosine_shared"]
OF_TOKENS = ["coding_rate", "mean_cosine", "hoyer", "token_snr", "token_spectrum"]
# Of each kind: how it is pooled, with the class token and without it.
KINDS = {"gpt2": {True: "mean"}, "bert": {True: "class", False: "mean"}}


def batches(side, batch_size, texts=TEXTS):
    def put_together(some):
        longest = max(len(ids) for ids, _ in some)
        ids = torch.zeros(len(some), longest, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, (text, _) in enumerate(some):
            at = slice(0, len(text)) if side == "right" else slice(longest - len(text), longest)
            ids[row, at], mask[row, at] = text, 1
        labels = torch.tensor([label for _, label in some])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    return DataLoader(texts, batch_size, collate_fn=put_together)


def values(kind, data):
    model = small(kind, pad_token_id=0)
    means = mean_updates(model, data, limit=None, fast=False)
    options = {"eps": 0.5, "progress": False, "fast": False}
    found = []
    for class_token, pool in KINDS[kind].items():
        pooled = ["pooled_rate", wp.Request(wp.metrics.NeuralCollapse(pool=pool))]
        asked = [*OF_UPDATES, *OF_TOKENS, *pooled]
        options |= {"class_token": class_token}
        result = wp.probe(with_means(model, means), data, asked, **options)
        nulls = wp.probe(model, data, OF_TOKENS[:3], null=["shuffled", "gaussian"], **options)
        found += [result.samples.to_numpy(), result.frame["mean"].to_numpy()]
        found.append(nulls.samples.to_numpy())
    alike = wp.similarity(model, small(kind, 1, pad_token_id=0), data, rank=2, progress=False)
    return [*found, alike.cka]


@pytest.fixture(scope="module", params=KINDS)
def one_by_one(request):
    """Of windows of their own lengths, which have no padding."""
    return request.param, values(request.param, batches("right", 1))


@pytest.mark.parametrize("batch_size", [2, 6])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_moves_no_number(one_by_one, side, batch_size):
    kind, wanted = one_by_one
    for got, want in zip(values(kind, batches(side, batch_size)), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)
