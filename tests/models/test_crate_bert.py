"""CRATE-BERT against the equations and names of its pull request."""

import pytest
import torch

import whitebox_probe as wp
from tests.conftest import STEP
from whitebox_probe._core.errors import CheckpointError, DataError, SiteError
from whitebox_probe.checkpoints import architecture
from whitebox_probe.models.families.crate_bert import CrateBert
from whitebox_probe.sites import SITES

SMALL = {"vocabulary": 23, "positions": 14, "dim": 16, "depth": 3, "heads": 2}


def small(**changes):
    return CrateBert(**(SMALL | changes)).eval()


def norm(x, state, key, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    scaled = (x - mean) / torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + eps)
    return scaled * state[f"{key}.weight"] + state[f"{key}.bias"]


def naive(state, ids, *, heads, depth, pad=1, eta=0.1, lam=0.1):
    """The pull request's equations for one window, in float64."""
    state = {key: tensor.double() for key, tensor in state.items()}
    at = "crate.embeddings"
    positions, seen = [], 0
    for token in ids.tolist():
        seen += token != pad
        positions.append(pad + seen if token != pad else pad)
    x = state[f"{at}.word_embeddings.weight"][ids]
    x = x + state[f"{at}.position_embeddings.weight"][positions]
    x = x + state[f"{at}.token_type_embeddings.weight"][0]
    x = norm(x, state, f"{at}.LayerNorm", 1e-12)
    sites = {}
    for i in range(depth):
        at = f"crate.encoder.layer.{i}"
        y = norm(x, state, f"{at}.attention.self.prenorm")
        out = []
        for U_k in state[f"{at}.attention.self.qkv.weight"].T.chunk(heads, dim=1):
            V = y @ U_k
            weights = (V @ V.T / V.shape[1] ** 0.5).exp()
            out.append(weights / weights.sum(-1, keepdim=True) @ V)
        out = torch.cat(out, dim=1) @ state[f"{at}.attention.output.dense.weight"].T
        half = x + out
        y = norm(half, state, f"{at}.output.prenorm")
        D = state[f"{at}.output.weight"]
        x = torch.clamp(y + eta * (y @ D - y @ D.T @ D) - eta * lam, min=0)
        sites |= {("attn_out", i + 1): out, ("z_half", i + 1): half, ("z_out", i + 1): x}
    return x, sites


@pytest.mark.parametrize("changes", [{}, {"heads": 4, "eta": 0.3, "lam": 0.7}, {"pad": 0}], ids=str)
def test_outputs_and_sites_equal_the_published_equations(changes):
    model = small(**changes)
    ids = torch.randint(2, 23, (2, 9))
    ids[1, 7:] = changes.get("pad", 1)
    wrapped = wp.wrap(model)
    with wp.record(wrapped, wrapped.sites) as rec:
        got = model(ids)
    arguments = {"heads": 2, "depth": 3} | changes
    for b in range(2):
        want, sites = naive(model.state_dict(), ids[b], **arguments)
        torch.testing.assert_close(got[b].double(), want, rtol=1e-5, atol=1e-5)
        for (site, layer), tensor in sites.items():
            recorded = rec[site, layer][b].double()
            torch.testing.assert_close(recorded, tensor, rtol=1e-5, atol=1e-5)


def test_the_base_size_has_the_parameters_of_its_shapes():
    family, arch = architecture("crate_bert_base")
    assert family == "crate_bert"
    with torch.device("meta"):
        model = CrateBert(**arch)
    embeddings = (50265 + 512 + 2) * 768 + 2 * 768
    layer = 3 * 768**2 + 4 * 768
    assert sum(p.numel() for p in model.parameters()) == embeddings + 12 * layer


def test_every_site_has_its_stated_shape_and_meaning():
    wrapped = wp.wrap(small())
    ids = torch.randint(2, 23, (2, 9))
    before = wrapped.module(ids)
    with wp.record(wrapped, wrapped.sites) as rec:
        assert torch.equal(wrapped.module(ids), before)
    sizes = {"B": 2, "n": 9, "d": 16, "K": 2, "p": 8}
    for layer in (1, 2, 3):
        for site in wrapped.sites:
            grammar = SITES[site].shape.strip("()").split(", ")
            assert rec[site, layer].shape == tuple(sizes[s] for s in grammar), site
        projected = rec["attn_in", layer].unsqueeze(1) @ wrapped.subspaces(layer)
        torch.testing.assert_close(rec["heads", layer], projected, rtol=1e-5, atol=1e-5)
        normed = wrapped.layer(layer).norm(rec["z_in", layer])
        torch.testing.assert_close(normed, rec["attn_in", layer])
        block = wrapped.module.crate["encoder"]["layer"][layer - 1]
        out = (rec["attn_weights", layer] @ rec["heads", layer]).transpose(1, 2).flatten(2)
        dense = block.attention.output.dense
        torch.testing.assert_close(dense(out), rec["attn_out", layer])
        torch.testing.assert_close(block.output.prenorm(rec["z_half", layer]), rec["mlp_in", layer])
        assert (rec["z_out", layer] >= 0).all()
        parts = wrapped.layer(layer).operators
        assert torch.equal(parts["D"], block.output.weight)
    assert wrapped.prefix_tokens == 1


def published(dim=16, depth=2, base=False):
    """Keys and shapes of the pull request's masked language model, written out from its code."""
    shapes = {
        "embeddings.word_embeddings.weight": (23, dim),
        "embeddings.position_embeddings.weight": (14, dim),
        "embeddings.token_type_embeddings.weight": (2, dim),
        "embeddings.LayerNorm.weight": (dim,),
        "embeddings.LayerNorm.bias": (dim,),
    }
    for i in range(depth):
        at = f"encoder.layer.{i}"
        for one in ("attention.self.prenorm", "output.prenorm"):
            shapes |= {f"{at}.{one}.weight": (dim,), f"{at}.{one}.bias": (dim,)}
        for one in ("attention.self.qkv", "attention.output.dense", "output"):
            shapes[f"{at}.{one}.weight"] = (dim, dim)
    if base:
        shapes |= {"pooler.dense.weight": (dim, dim), "pooler.dense.bias": (dim,)}
    else:
        shapes = {f"crate.{key}": shape for key, shape in shapes.items()}
        shapes |= {"lm_head.dense.weight": (dim, dim), "lm_head.bias": (23,)}
    return {key: torch.randn(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("kind", ["pytorch_model.bin", "model.safetensors"])
def test_a_file_in_the_pull_requests_format_loads(tmp_path, base, kind):
    from safetensors.torch import save_file

    state = published(base=base)
    (torch.save if kind.endswith("bin") else save_file)(state, tmp_path / kind)
    model = wp.load(tmp_path / kind, heads=4, pad=1, **STEP)
    assert (model.family.name, model.layers, model.dims.heads) == ("crate_bert", 2, 4)
    for key, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, state[key.removeprefix("crate.") if base else key])


def test_a_tensor_by_the_bare_models_name_too_is_refused(tmp_path):
    state = published()
    state["encoder.layer.0.output.weight"] = torch.ones(16, 16)
    torch.save(state, tmp_path / "x.bin")
    arch = {
        "family": "crate_bert",
        "vocabulary": 23,
        "positions": 14,
        "dim": 16,
        "depth": 2,
        "heads": 2,
    }
    with pytest.raises(CheckpointError, match=r"two tensors .*'crate\.encoder\.layer\.0\.output"):
        wp.load(tmp_path / "x.bin", arch=arch)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s, k: s.update({f"{k}s": s.pop(k)}), "1 missing: .*; 1 unexpected: "),
        (lambda s, k: s.pop(k), "1 missing: crate.encoder.layer.1.output.weight"),
        (lambda s, k: s.update({k: torch.zeros(16, 8)}), r"wrongly shaped: .* \(16, 8\)"),
        (lambda s, k: s.update({"crate.extra": torch.zeros(2)}), "1 unexpected: crate.extra"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_keys(tmp_path, change, told):
    state = published()
    change(state, "crate.encoder.layer.1.output.weight")
    torch.save(state, tmp_path / "x.bin")
    with pytest.raises(CheckpointError, match=told):
        wp.load(tmp_path / "x.bin", heads=2)


def test_a_tensor_of_ids_is_probed():
    ids = torch.randint(2, 23, (6, 12))
    metrics = ["compression", "l0"]
    result = wp.probe(wp.wrap(small()), ids, metrics=metrics, batch_size=4, progress=False)
    assert len(result.samples) == 6
    assert (result.frame.query("metric == 'l0'")["mean"] < 1).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="13 tokens are more than its 12 positions"):
        small()(torch.zeros(1, 13, dtype=torch.long))
    with pytest.raises(SiteError, match="ISTA block has no hidden"):
        wp.wrap(small()).tap("mlp_hidden", 1)
    with pytest.raises(ValueError, match="3 heads do not share"):
        small(heads=3)
