"""CRATE-GPT2 and CRATE-LM against the published equations, sizes and files."""

import pytest
import torch

import whitebox_probe as wp
from tests.conftest import STEP, save_nanogpt
from whitebox_probe._core.errors import CheckpointError, DataError, SiteError
from whitebox_probe.checkpoints import architecture
from whitebox_probe.models.families.crate_gpt import CrateGPT
from whitebox_probe.sites import SITES

SMALL = {"vocabulary": 23, "block_size": 12, "dim": 16, "depth": 3, "heads": 2}
KINDS = [{"atoms": None}, {"atoms": 64}]


def small(**changes):
    return CrateGPT(**(SMALL | changes)).eval()


def norm(x, state, key):
    mean = x.mean(-1, keepdim=True)
    scaled = (x - mean) / torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5)
    return scaled * state[f"{key}.weight"] + state[f"{key}.bias"]


def naive(state, ids, *, heads, depth, eta=0.1, lam=0.1):
    """The published equations for one window, a head and a token at a time, in float64."""
    state = {key: tensor.double() for key, tensor in state.items()}
    x = state["transformer.wte.weight"][ids] + state["transformer.wpe.weight"][: len(ids)]
    sites = {}
    for i in range(depth):
        at = f"transformer.h.{i}"
        y = norm(x, state, f"{at}.prenorm_1")
        U = state[f"{at}.attn.c_attn.weight"].T.chunk(heads, dim=1)
        out = torch.zeros_like(x)
        p = U[0].shape[1]
        for k, U_k in enumerate(U):
            V = y @ U_k
            for t in range(len(ids)):
                logits = torch.stack([V[t] @ V[s] / p**0.5 for s in range(t + 1)])
                A = logits.exp() / logits.exp().sum()
                out[t, k * p : (k + 1) * p] = A @ V[: t + 1]
        out = out @ state[f"{at}.attn.c_proj.weight"].T + state[f"{at}.attn.c_proj.bias"]
        half = x + out
        y = norm(half, state, f"{at}.prenorm_2")
        W = state[f"{at}.ista.weight"]
        if "transformer.ln_f.weight" in state:
            a1 = torch.clamp(eta * y @ W.T - eta * lam, min=0)
            a2 = torch.clamp(a1 + eta * (y @ W.T - a1 @ W @ W.T) - eta * lam, min=0)
            x = a2 @ W
            sites["code", i + 1] = a2
        else:
            x = torch.clamp(y + eta * (y @ W - y @ W.T @ W) - eta * lam, min=0)
        sites |= {("attn_out", i + 1): out, ("z_half", i + 1): half, ("z_out", i + 1): x}
    if "transformer.ln_f.weight" in state:
        x = norm(x, state, "transformer.ln_f")
    return x[-1:] @ state["lm_head.weight"].T, sites


@pytest.mark.parametrize("kind", [*KINDS, {"atoms": 40, "eta": 0.3, "lam": 0.7, "heads": 4}])
@pytest.mark.parametrize("length", [1, 7, 12])
def test_outputs_and_sites_equal_the_published_equations(kind, length):
    model = small(**kind)
    ids = torch.randint(23, (2, length))
    wrapped = wp.wrap(model)
    with wp.record(wrapped, wrapped.sites) as rec:
        got = model(ids)
    for b in range(2):
        want, sites = naive(
            model.state_dict(),
            ids[b],
            heads=kind.get("heads", 2),
            depth=3,
            eta=kind.get("eta", 0.1),
            lam=kind.get("lam", 0.1),
        )
        torch.testing.assert_close(got[b].double(), want, rtol=1e-5, atol=1e-5)
        for (site, layer), tensor in sites.items():
            recorded = rec[site, layer][b].double()
            torch.testing.assert_close(recorded, tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "millions", "positions"),
    [  # as published: without position embeddings, except where the sheet gives both
        ("crate_gpt2_base", 59.91, False),
        ("crate_gpt2_base", 60.70, True),
        ("crate_lm_1l", 6.54, False),
        ("crate_lm_2l", 6.64, False),
        ("crate_lm_3l", 6.74, False),
        ("crate_lm_6l", 59.9, False),
        ("crate_lm_12l", 81.15, False),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(name, millions, positions):
    family, arch = architecture(name)
    assert family == "crate_gpt"
    with torch.device("meta"):
        model = CrateGPT(**arch)
    count = sum(p.numel() for p in model.parameters())
    count -= 0 if positions else model.transformer["wpe"].weight.numel()
    digits = len(str(millions).partition(".")[2])
    assert round(count / 1e6, digits) == millions


@pytest.mark.parametrize("kind", KINDS)
def test_every_site_has_its_stated_shape_and_meaning(kind):
    wrapped = wp.wrap(small(**kind))
    ids = torch.randint(23, (2, 9))
    with wp.record(wrapped, wrapped.sites) as rec:
        wrapped.module(ids)
    sizes = {"B": 2, "n": 9, "d": 16, "K": 2, "p": 8, "h": kind["atoms"]}
    assert ("code" in wrapped.sites) == (kind["atoms"] is not None)
    for layer in (1, 2, 3):
        for site in wrapped.sites:
            grammar = SITES[site].shape.strip("()").split(", ")
            assert rec[site, layer].shape == tuple(sizes[s] for s in grammar), site
        U = wrapped.subspaces(layer)
        assert U.shape == (2, 16, 8)
        projected = rec["attn_in", layer].unsqueeze(1) @ U
        torch.testing.assert_close(rec["heads", layer], projected, rtol=1e-5, atol=1e-5)
        normed = wrapped.layer(layer).norm(rec["z_in", layer])
        torch.testing.assert_close(normed, rec["attn_in", layer])
        A, V = rec["attn_weights", layer], rec["heads", layer]
        assert (A.triu(1) == 0).all()
        block = wrapped.module.transformer["h"][layer - 1]
        out = block.attn.c_proj((A @ V).transpose(1, 2).flatten(2))
        torch.testing.assert_close(out, rec["attn_out", layer])
        torch.testing.assert_close(block.prenorm_2(rec["z_half", layer]), rec["mlp_in", layer])
        parts = wrapped.layer(layer).operators
        assert (parts["lam"], parts["eta"]) == (0.1, 0.1)
        if kind["atoms"]:
            torch.testing.assert_close(rec["code", layer] @ parts["D"].mT, rec["z_out", layer])
        else:
            assert parts["D"].shape == (16, 16)
            assert (rec["z_out", layer] >= 0).all()
    assert wrapped.prefix_tokens == 0


@pytest.mark.parametrize("kind", KINDS)
def test_recording_changes_no_bit_of_the_output(kind):
    wrapped = wp.wrap(small(**kind))
    ids = torch.randint(23, (2, 9))
    before = wrapped.module(ids)
    with wp.record(wrapped, wrapped.sites):
        assert torch.equal(wrapped.module(ids), before)


def test_a_later_token_changes_nothing_before_it():
    wrapped = wp.wrap(small(atoms=64))
    ids = torch.randint(23, (1, 9))
    with wp.record(wrapped, ["z_out"]) as one:
        wrapped.module(ids)
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % 23
    with wp.record(wrapped, ["z_out"]) as other:
        wrapped.module(changed)
    torch.testing.assert_close(one["z_out", 3][:, :-1], other["z_out", 3][:, :-1])
    assert not torch.equal(one["z_out", 3][:, -1], other["z_out", 3][:, -1])


def published(dim=16, depth=2, vocabulary=23, positions=12, atoms=64, mask=False):
    """Keys and shapes of a released file, written out from its code."""
    shapes = {
        "transformer.wte.weight": (vocabulary, dim),
        "transformer.wpe.weight": (positions, dim),
    }
    for i in range(depth):
        at = f"transformer.h.{i}"
        for one in ("prenorm_1", "prenorm_2"):
            shapes |= {f"{at}.{one}.weight": (dim,), f"{at}.{one}.bias": (dim,)}
        shapes |= {
            f"{at}.attn.c_attn.weight": (dim, dim),
            f"{at}.attn.c_proj.weight": (dim, dim),
            f"{at}.attn.c_proj.bias": (dim,),
            f"{at}.ista.weight": (atoms or dim, dim),
        }
    if atoms:
        shapes |= {"transformer.ln_f.weight": (dim,), "transformer.ln_f.bias": (dim,)}
    state = {key: torch.randn(shape) for key, shape in shapes.items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]
    if mask:
        for i in range(depth):
            causal = torch.ones(positions, positions).tril()[None, None]
            state[f"transformer.h.{i}.attn.bias"] = causal
    return state


def save(file, state, *, model_args=True, prefix="_orig_mod."):
    return save_nanogpt(file, state, heads=4, model_args=model_args, prefix=prefix)


@pytest.mark.parametrize("atoms", [None, 64])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module."])
def test_a_released_file_loads_with_only_its_step_assumed(tmp_path, atoms, prefix):
    state = published(atoms=atoms, mask=atoms is None)
    save(tmp_path / "ckpt.pt", state, prefix=prefix)
    with pytest.warns(wp.AssumedWarning, match=r"with eta=0\.1 and lam=0\.1: no file holds"):
        model = wp.load(tmp_path / "ckpt.pt")
    assert (model.family.name, model.layers, model.dims.heads) == ("crate_gpt", 2, 4)
    for key, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, state[key])
    want, _ = naive(state, torch.arange(7), heads=4, depth=2)
    got = model.module(torch.arange(7)[None])[0].double()
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_heads_are_asked_for_where_the_file_does_not_hold_them(tmp_path):
    save(tmp_path / "ckpt.pt", published(dim=64, atoms=None), model_args=False)
    with pytest.raises(CheckpointError, match=r"it does not say heads.*heads=1 or 2 or 4"):
        wp.load(tmp_path / "ckpt.pt")
    assert wp.load(tmp_path / "ckpt.pt", heads=2, **STEP).dims.dim_head == 32


def test_a_tied_tensor_may_be_stored_once(tmp_path):
    from safetensors.torch import save_file

    state = published()
    del state["lm_head.weight"]
    save_file(state, tmp_path / "x.safetensors")
    model = wp.load(tmp_path / "x.safetensors", heads=2, **STEP)
    assert torch.equal(model.module.lm_head.weight, state["transformer.wte.weight"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda s: s.update(
                {"transformer.h.1.ista.w": s.pop("transformer.h.1.ista.weight")},
            ),
            r"1 missing: transformer.h.1.ista.weight; 1 unexpected: transformer.h.1.ista.w",
        ),
        (lambda s: s.pop("transformer.h.1.prenorm_1.bias"), "1 missing: .*prenorm_1.bias"),
        (
            lambda s: s.update({"transformer.h.1.ista.weight": torch.zeros(64, 8)}),
            r"wrongly shaped: transformer.h.1.ista.weight \(64, 8\)",
        ),
        (lambda s: s.update({"lm_head.weight": torch.zeros(23, 16)}), "differ.*one tensor"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_keys(tmp_path, change, told):
    state = published()
    change(state)
    save(tmp_path / "ckpt.pt", state)
    with pytest.raises(CheckpointError, match=told):
        wp.load(tmp_path / "ckpt.pt")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_of_ids_is_probed(kind):
    model = wp.wrap(small(**kind))
    ids = torch.randint(23, (6, 12))
    metrics = ["compression", "l0"]
    result = wp.probe(model, ids, metrics=metrics, batch_size=4, progress=False)
    assert len(result.samples) == 6
    assert result.run["tokens"] == 12
    l0 = result.frame.query("metric == 'l0'")["mean"]
    assert (l0 == 1).all() if kind["atoms"] else (l0 < 1).all()
    if kind["atoms"]:
        at_code = wp.probe(model, ids, metrics=["l0"], sites={"l0": "code"}, progress=False)
        assert (at_code.frame["mean"] < 1).all()


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (torch.zeros(1, 13, dtype=torch.long), "13 tokens are more than its 12 positions"),
        (torch.full((1, 3), 23), "ids 23 to 23 are not all among its 23"),
        (torch.full((1, 3), -1), "ids -1 to -1"),
        (torch.zeros(1, 3), "integer ids"),
        (torch.zeros(1, 3, 2, dtype=torch.long), "integer ids"),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids, told):
    with pytest.raises(DataError, match=told):
        wp.probe(wp.wrap(small()), ids, metrics=["l0"], progress=False)


def test_sites_that_it_lacks_say_where_to_look():
    with pytest.raises(SiteError, match="recorded as 'z_out'"):
        wp.wrap(small()).tap("code", 1)
    with pytest.raises(SiteError, match="a CRATE-LM has 'code'"):
        wp.wrap(small(atoms=64)).tap("mlp_hidden", 1)


def test_heads_that_do_not_share_the_width_are_refused():
    with pytest.raises(ValueError, match="3 heads do not share a width of 16"):
        small(heads=3)
