"""K and p are those of the basis in use, everywhere: with grouped queries they differ by basis."""

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import BasisError
from whitebox_probe.metrics.compression import official_bounds
from whitebox_probe.probing.bases import _qk, basis_of

QUERIES, KEYS, WIDTH = 4, 2, 8
HEADS = {"qkv:q": QUERIES, "qkv:k": KEYS, "qkv:v": KEYS, "qk": QUERIES, "random": KEYS, "pca": KEYS}


@pytest.fixture(scope="module")
def grouped():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=QUERIES,
        num_key_value_heads=KEYS,
    )
    return wp.wrap(transformers.LlamaModel(config).eval())


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 96, (12, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("basis", HEADS)
def test_bounds_and_run_sizes_are_those_of_the_basis(grouped, ids, basis):
    result = wp.probe(
        grouped,
        ids,
        ["compression", "coherence"],
        basis=basis,
        convention=["official", "paper"],
        limit=6,
        fit_limit=6,
        progress=False,
    )
    K = HEADS[basis]
    assert (result.run.heads, result.run.dim_head) == (K, WIDTH)
    assert result.matrix("coherence").shape == (2, K, K)
    low, high = official_bounds(heads=K, dim_head=WIDTH, tokens=7)
    assert result.run.bounds["compression"] == pytest.approx([low, high])
    values = result.values("compression", convention="official")
    assert ((values > low - 1e-9) & (values < high + 1e-9)).all()


def test_several_bases_have_bounds_of_their_own(grouped, ids):
    result = wp.probe(
        grouped,
        ids,
        ["compression"],
        basis=["qkv:k", "qkv:q"],
        convention="official",
        progress=False,
    )
    for basis in ("qkv:k", "qkv:q"):
        expected = official_bounds(heads=HEADS[basis], dim_head=WIDTH, tokens=7)
        row = {"basis": basis, "convention": "official", "class_token": True, "eps": 0.1}
        assert result.run.bound("compression", row) == pytest.approx(expected)


def test_qk_pairs_each_query_head_with_the_key_head_that_it_reads(grouped):
    found = basis_of(grouped, "qk")[1]
    Q, K = (grouped.subspaces(1, f"qkv:{which}").double() for which in "qk")
    assert found.shape == (QUERIES, 32, WIDTH)
    for head in range(QUERIES):
        product = Q[head] @ K[head // 2].mT  # (d, d): W_Q^T W_K
        V = torch.linalg.svd(product).Vh[:WIDTH].mT
        assert torch.allclose(V @ V.mT, found[head] @ found[head].mT, atol=1e-6)


def test_query_heads_that_key_heads_do_not_share_evenly_are_refused():
    with pytest.raises(BasisError, match="3 query heads"):
        _qk(torch.randn(3, 8, 2), torch.randn(2, 8, 2))
