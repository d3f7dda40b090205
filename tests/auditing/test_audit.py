"""The audit of real models: what it measures, how it is saved, drawn and told."""

import json
import threading
from dataclasses import replace
from functools import partial
from types import MethodType

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import nn

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.gate import digest
from whitebox_probe.auditing import nulls
from whitebox_probe.auditing.claim import claims
from whitebox_probe.auditing.claims.incoherent_subspaces import overlap_spread
from whitebox_probe.auditing.grid import around, usual
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.auditing.verdicts import VERDICTS, Audit
from whitebox_probe.models.registry import build
from whitebox_probe.results import kinds
from whitebox_probe.results.folder import is_own
from whitebox_probe.stats import t_interval

IMAGES = torch.randn(12, 1, 28, 28, generator=torch.Generator().manual_seed(0))
BY_NAME = claims()
FEW = {"draws": 3, "null_limit": 4, "progress": False}


@pytest.fixture(scope="module")
def found():
    models = [wp.load("crate-tiny-fmnist"), wp.load("vit-tiny-fmnist")]
    return wp.audit(models, "fashion-mnist", limit=32, draws=12, null_limit=8, progress=False)


def row_of(audit, model, claim):
    return audit.frame.query("model == @model and claim == @claim").iloc[0]


def test_each_claim_is_judged_for_each_model(found):
    assert len(found.frame) == 2 * len(BY_NAME)
    assert all(verdict.startswith(VERDICTS) for verdict in found.frame["verdict"])
    vit = found.frame[found.frame["model"] == "vit-tiny-fmnist"].set_index("claim")
    assert vit.loc["ista_descends", "verdict"] == "not applicable"
    assert "not a proximal one" in vit.loc["ista_descends", "reason"]
    assert "no exact zeros" in vit.loc["sparsifies", "reason"]
    judged = found.frame[found.frame["verdict"] != "not applicable"]
    counts = judged["null"].map({"random weights": 12, "permuted weights": 6})
    assert (judged["null_draws"] == counts).all()
    assert (judged["null_low"] < judged["null_mean"]).all()
    assert (judged["sentence"].str.len() > 20).all()


def test_the_shipped_models_get_the_verdicts_that_the_docs_tell(found):
    crate = found.frame[found.frame["model"] == "crate-tiny-fmnist"].set_index("claim")["verdict"]
    assert crate["compresses"] == crate["attention_descends"] == "supported"
    assert crate["sparsifies"] == crate["incoherent_subspaces"] == "not supported"
    vit = found.frame[found.frame["model"] == "vit-tiny-fmnist"].set_index("claim")["verdict"]
    assert vit["attention_descends"] == vit["compresses"] == "not supported"


def test_the_effects_are_those_of_the_results(found):
    result = found.results["crate-tiny-fmnist"]
    where = {"convention": "official", "basis": "native", "eps": 0.1, "class_token": True}
    R, left = (result.values("compression", site, **where) for site in ("z_in", "z_out"))
    row = row_of(found, "crate-tiny-fmnist", "compresses")
    assert row["value"] == pytest.approx((left - R)[:, 1:].sum(axis=1).mean() / R[:, 1].mean())
    assert row["ci_low"] < row["value"] < row["ci_high"]
    where = {"basis": "qkv:k", "eps": 0.1, "class_token": True, "prenorm": True}
    result = found.results["vit-tiny-fmnist"]
    change = result.values("attention_rate_change", **where)
    rate = result.values("compression", "z_in", convention="paper", **where)
    row = row_of(found, "vit-tiny-fmnist", "attention_descends")
    assert row["value"] == pytest.approx(change.sum() / rate.sum())
    whole = {"common", "radial", "tangential"}
    parts = found.parts.query("model == 'vit-tiny-fmnist' and claim == 'attention_descends'")
    parts = parts.set_index("part")["value"]
    told = sum(parts[f"{name}_nats"] for name in whole)
    assert told == pytest.approx(change.mean(), rel=1e-5)


def test_of_random_weights_no_more_is_measured_than_what_they_are_compared_by(found):
    of_model = set(found.results["crate-tiny-fmnist"].frame["metric"])
    drawn = set(found.nulls["crate-tiny-fmnist"][0].frame["metric"])
    assert {"lasso_gap_closed", "descent_cosine", "attention_rate_change_radial"} <= drawn
    controls = {"lasso_gap_others", "attention_rate_change_shuffled", "descent_cosine_common"}
    assert controls <= of_model
    assert not controls & drawn


def test_one_bad_sample_is_left_out_and_costs_no_other():
    model = wp.reference.networks()["equation-12"]
    module, tokens = model.build(0), model.data(0, 24)

    def spoil(attention, inputs, output):
        bad = (inputs[0] == tokens[3]).all(dim=(1, 2)) if inputs[0].shape[1:] == (32, 32) else None
        return output if bad is None else output.masked_fill(bad[:, None, None], torch.nan)

    handle = module.module.layers[0].attention.register_forward_hook(spoil)
    try:
        with pytest.raises(ProbeError, match="1 of 24 samples"):
            wp.audit(module, tokens, progress=False)
        audit = wp.audit(module, tokens, nonfinite="drop", progress=False)
    finally:
        handle.remove()
    rows = audit.frame.set_index("claim")
    assert (rows["samples"] == 23).all()
    assert rows.loc["attention_descends", "verdict"] == "supported"


def test_a_claim_that_cannot_be_measured_costs_no_other():
    """Codes with negative entries, under a dictionary that is declared."""
    known = wp.reference.networks()["ista-identity"]
    model = known.build(0)
    handle = model.module.layers[9].second.register_forward_hook(lambda _, x, y: y - 0.1)
    try:
        rows = wp.audit(model, known.data(0, 12), progress=False).frame.set_index("claim")
    finally:
        handle.remove()
    assert rows.loc["ista_descends", "verdict"] == "not applicable"
    assert "negative entries" in rows.loc["ista_descends", "reason"]
    assert rows.loc["incoherent_subspaces", "verdict"] == "supported"


def test_curves_begin_at_a_layer_that_is_there():
    with pytest.raises(ProbeError, match="first_layer is 20: crate-tiny-fmnist has 8 layers"):
        wp.audit("crate-tiny-fmnist", IMAGES, first_layer=20, **FEW)


def test_several_seeds_are_told_together(found):
    together = found.together().set_index("claim")
    assert "ista_descends" not in together.index  # of one of them alone
    mine = found.frame.query("claim == 'attention_aligned'")
    row = together.loc["attention_aligned"]
    assert row["mean"] == pytest.approx(mine["value"].mean())
    low, high = t_interval(mine[["value"]].to_numpy())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low[0], high[0]))
    assert (row["models"], row["supported"]) == (2, (mine["verdict"] == "supported").sum())


def test_subspaces_of_the_tokens_say_nothing_of_the_heads():
    audit = wp.audit("crate-tiny-fmnist", IMAGES, limit=6, basis="pca", null=False, progress=False)
    row = row_of(audit, "crate-tiny-fmnist", "incoherent_subspaces")
    assert row["verdict"] == "not applicable"
    assert "none of the heads' weights" in row["reason"]


def test_other_settings_are_shown_and_count_where_the_claim_keeps_its_meaning(found):
    others = found.robustness.query("model == 'crate-tiny-fmnist' and claim == 'compresses'")
    told = others.set_index("setting")["counts"]
    assert told[["eps=0.05", "class_token=False", "samples=16"]].all()
    assert not told["first_layer=3"]  # six values are too few for the sign of five steps
    assert not told["first_layer=1"]  # the embedding
    assert "embedding" in others.set_index("setting").loc["first_layer=1", "why"]
    vit = found.robustness.query("model == 'vit-tiny-fmnist' and claim == 'objective_improves'")
    assert {"basis=qkv:q", "basis=qkv:v", "lam=1", "prenorm=False"} <= set(vit["setting"])


def test_the_exact_spread_of_random_overlaps_is_that_of_draws():
    random = np.random.default_rng(0)
    d, K, p = 24, 3, 6
    drawn = []
    for _ in range(1500):
        Q = np.linalg.qr(random.standard_normal((K, d, p)))[0]
        cross = np.einsum("kdp,jdq->kjpq", Q, Q)
        shares = (cross**2).sum((2, 3)) / p
        first, second = np.triu_indices(K, 1)
        drawn.append(shares[first, second].mean())
    drawn = np.array(drawn)
    spread = overlap_spread(d, K, p)
    assert drawn.std() == pytest.approx(spread, rel=0.06)
    assert drawn.mean() == pytest.approx(p / d, abs=4 * spread / np.sqrt(1500))
    assert (np.abs(drawn - p / d) > 1.96 * spread).mean() == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(("heads", "keys"), [(2, 1), (4, 2)])
def test_overlaps_are_of_as_many_subspaces_as_a_basis_has(heads, keys):
    """Where queries share keys, a basis of keys has fewer subspaces than one of queries."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 23, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}

    def make(seed):
        torch.manual_seed(seed)
        sizes_of_heads = {"num_attention_heads": heads, "num_key_value_heads": keys}
        return transformers.LlamaModel(transformers.LlamaConfig(**sizes, **sizes_of_heads)).eval()

    model, ids = wp.wrap(make(0), name="m"), torch.randint(2, 23, (6, 7))
    claim, by = BY_NAME["incoherent_subspaces"], Thresholds()
    result = wp.probe(model, ids, ["coherence"], basis=["qkv:k", "qkv:q"], progress=False)
    for basis, K in (("qkv:k", keys), ("qkv:q", heads)):
        setting = replace(usual(model, eps=0.1, lam=0.1), basis=basis)
        told = claim.find(Readings(result), setting, by)
        if K == 1:
            assert "one head" in told.missing
            continue
        d, p = 16, 16 // heads
        part = p / d if told.value < 0 else 1 - p / d
        half = 1.959963984540054 * overlap_spread(d, K, p) / part
        assert told.high - told.value == pytest.approx(half, rel=1e-6)
    few = {"untrained": make, "draws": 2, "null_limit": 2, "progress": False}
    assert set(wp.audit(model, ids, **few).frame["claim"]) == set(BY_NAME)


def test_a_layer_whose_keys_are_zero_costs_no_claim(recwarn):
    """Its rate in the heads' subspaces is zero, and shares of it are no numbers."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 23, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}

    def make(seed):
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
        return transformers.LlamaModel(config).eval()

    module = make(0)
    with torch.no_grad():
        module.layers[0].self_attn.k_proj.weight.zero_()
    few = {"untrained": make, "draws": 2, "null_limit": 2, "progress": False}
    audit = wp.audit(wp.wrap(module, name="m"), torch.randint(2, 23, (6, 7)), **few)
    assert set(audit.frame["claim"]) == set(BY_NAME)
    assert not [each for each in recwarn if issubclass(each.category, RuntimeWarning)]


def test_it_is_saved_whole_explained_and_drawn(found, tmp_path):
    found.save(tmp_path)
    whole = json.loads((tmp_path / "audit.json").read_text())
    assert len(whole["verdicts"]) == len(found.frame)
    assert whole["thresholds"]["keeps"] == Thresholds().keeps
    assert set(whole["rules"]) == set(BY_NAME)
    for name in ("eps", "lam", "basis", "seed", "data", "count", "draws"):
        assert name in whole["settings"]
    again = Audit.load(tmp_path)
    (tmp_path / "audit.json").unlink()
    assert is_own(tmp_path, kinds.AUDIT)  # by the columns of its tables
    for name in ("frame", "robustness", "parts", "curves"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(found, name), check_dtype=False)
    assert again == found
    assert again.explain("compresses") == found.explain("compresses")
    told = found.explain("attention_descends")
    assert "crate-tiny-fmnist: supported" in told
    assert "eps=0.05" in told
    assert "random weights" in told
    with pytest.raises(wp.ProbeError, match="'compress' was not judged"):
        found.explain("compress")
    assert len(found.sentences()) == len(found.frame)
    assert len(repr(found)) < 200
    for damage in (
        lambda told: told["curves"][0].pop("layer"),
        lambda told: told["curves"][0].update(layer=None),
        lambda told: told["curves"][0].update(mean="much"),
        lambda told: told["curves"][0].update(more=1),
        lambda told: told["robustness"][0].update(setting=None),
        lambda told: told["rules"]["compresses"].update(statistic=True),
        lambda told: told["rules"]["compresses"].pop("about"),
        lambda told: told["settings"].update(first_layer="x"),
        lambda told: told["settings"].update(models=[]),
        lambda told: next(iter(told["settings"]["models"].values()))["network"].update(arch=[1]),
        lambda told: next(iter(told["settings"]["models"].values())).update(checkpoint=[1]),
    ):
        forged = json.loads(json.dumps(whole))
        damage(forged)
        forged.pop("digest")
        (tmp_path / "audit.json").write_text(json.dumps(forged | {"digest": digest(forged)}))
        with pytest.raises(wp.ProbeError, match="the audit in .* cannot be read"):
            Audit.load(tmp_path)
    (tmp_path / "audit.json").write_text('{"thresholds": {}}')
    with pytest.raises(wp.ProbeError, match="an older version made it"):
        Audit.load(tmp_path)
    figure = wp.plots.audit(found)
    text = " ".join(t.get_text() for ax in figure.axes for t in [*ax.texts, ax.title])
    assert "not applicable" in text
    paths = wp.plots.save(figure, tmp_path / "audit", ["pdf", "png"])
    assert all(path.stat().st_size > 10_000 for path in paths)


ARCH = {"dim": 16, "heads": 2}
PICTURE = ARCH | {"image_size": 12, "patch_size": 4, "dim_head": 8}
OTHERS = {
    "crate_gpt": ARCH | {"vocabulary": 23, "block_size": 12, "depth": 2, "atoms": 32},
    "crate_mae": PICTURE | {"depth": 2, "decoder_depth": 3, "lam": 0.5},
    "crate_alpha": PICTURE | {"classes": 3, "depth": 2},
    "crate_bert": ARCH | {"vocabulary": 23, "positions": 16, "depth": 2},
}


@pytest.mark.parametrize("more", [{}, {"robustness": False}, {"null": False}])
def test_an_audit_is_read_as_it_was(more, tmp_path):
    """With tables that have no rows too."""
    model = wp.wrap(small_crate(), name="small")
    images = torch.randn(12, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    audit = wp.audit(model, images, draws=2, progress=False, **more)
    assert wp.Audit.load(audit.save(tmp_path / "a")) == audit


@pytest.mark.parametrize("family", OTHERS)
def test_every_kind_of_proximal_step_is_judged(family):
    model = wp.wrap(build(family, OTHERS[family], source="a test"), name=family)
    text = "vocabulary" in OTHERS[family]
    data = torch.randint(23, (6, 12)) if text else torch.randn(6, 3, 12, 12)
    audit = wp.audit([model], data, **FEW)
    row = audit.frame.set_index("claim").loc["ista_descends"]
    assert row["verdict"] != "not applicable"
    assert row["null"] == "permuted weights"
    curve = audit.curves[audit.curves["claim"] == "ista_descends"]
    assert curve["layer"].tolist() == [1, 2]  # of an autoencoder, the encoder's
    assert row["value"] == pytest.approx(curve["mean"].mean())
    assert wp.plots.audit(audit).axes


@pytest.mark.parametrize("family", ["tost", "aot", "tost_gpt"])
def test_models_without_a_proximal_step_are_judged_on_the_other_claims(family):
    arch = {"tost": ARCH | {"patch_size": 4, "classes": 3, "depth": 2}}
    arch |= {"aot": PICTURE | {"classes": 3, "depth": 2}}
    arch |= {"tost_gpt": ARCH | {"vocabulary": 23, "block_size": 12, "depth": 2}}
    model = wp.wrap(build(family, arch[family], source="a test"), name=family)
    text = "vocabulary" in arch[family]
    data = torch.randint(23, (6, 12)) if text else torch.randn(6, 3, 12, 12)
    rows = wp.audit([model], data, **FEW).frame.set_index("claim")
    assert rows.loc["ista_descends", "verdict"] == "not applicable"
    assert rows.loc["attention_descends", "verdict"] != "not applicable"


def test_a_mapped_module_is_judged_on_what_its_sites_allow():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, nhead=2, batch_first=True)
    network = nn.TransformerEncoder(layer, num_layers=6)
    sites = {"z_in": "layers.{layer}:input", "attn_in": "layers.{layer}:input"}
    with pytest.raises(ProbeError, match="no claim can be judged on .*z_out"):
        wp.audit(wp.wrap(network, sites=sites, dim=16, heads=2), torch.randn(6, 9, 16), **FEW)
    sites["z_out"] = "layers.{layer}:output"
    model = wp.wrap(network, sites=sites, dim=16, heads=2)
    audit = wp.audit(model, torch.randn(6, 9, 16), **FEW)
    rows = audit.frame.set_index("claim")
    assert rows.loc["keeps_expanding", "verdict"] != "not applicable"
    assert rows.loc["attention_descends", "verdict"] == "not applicable"
    assert (rows["null"] == "").all()


def test_weights_are_permuted_tensor_by_tensor():
    model = wp.wrap(build("aot", PICTURE | {"classes": 3, "depth": 2}, source="a test"), name="a")
    one, two = nulls.draws(model, nulls.PERMUTED, 2, seed=0)
    pairs = zip(model.module.parameters(), one.module.parameters(), strict=True)
    assert all(torch.equal(a.flatten().sort().values, b.flatten().sort().values) for a, b in pairs)
    assert not torch.equal(one.subspaces(1), model.subspaces(1))
    assert not torch.equal(one.subspaces(1), two.subspaces(1))


def test_permuted_weights_are_measured_where_the_forward_was_replaced():
    module = build("aot", PICTURE | {"classes": 3, "depth": 2}, source="a test")
    (plain,) = nulls.draws(wp.wrap(module, name="a"), nulls.PERMUTED, 1, seed=0)
    old = module.forward
    module.forward = MethodType(lambda self, x: old(x), module)
    (same,) = nulls.draws(wp.wrap(module, name="a"), nulls.PERMUTED, 1, seed=0)
    images = torch.randn(3, 3, 12, 12)
    found = [
        wp.probe(each, images, ["l0", "coding_rate"], progress=False) for each in (plain, same)
    ]
    assert found[0].samples.equals(found[1].samples)


def test_weights_that_stay_as_trained_are_no_null():
    module = build("aot", PICTURE | {"classes": 3, "depth": 2}, source="a test")
    model, images = wp.wrap(module, name="a"), torch.randn(3, 3, 12, 12)
    measure = partial(wp.probe, data=images, metrics=["coding_rate"], progress=False)

    def null():
        (draw,) = nulls.draws(model, nulls.PERMUTED, 1, seed=0)
        return nulls.measured(model, nulls.PERMUTED, draw, measure)

    assert null().frame["mean"].notna().all()
    part = [each for each in module.modules() if type(each) is nn.Linear][2]
    part.kept = part.weight.detach().clone()
    part.forward = MethodType(lambda self, x: nn.functional.linear(x, self.kept, self.bias), part)
    with pytest.raises(ProbeError, match=r"of a cannot all be permuted: .*kept', which is no"):
        null()


class OfArrays(nn.Module):
    """A linear map whose matrix is an array, which no function of torch's shows."""

    def __init__(self, part):
        super().__init__()
        self.in_features, self.out_features = part.in_features, part.out_features
        self.held, self.bias = part.weight.detach().numpy().copy(), part.bias

    @property
    def weight(self):
        return torch.from_numpy(self.held)

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


def test_subspaces_that_stay_as_trained_are_no_null():
    vit = small_vit()
    for block in vit.blocks:
        block.attn.qkv = OfArrays(block.attn.qkv)
    model = wp.wrap(vit, name="a")
    with pytest.raises(ProbeError, match="the subspaces of layer 1 stay as they are"):
        wp.audit(model, torch.randn(4, 3, 12, 12), draws=2, progress=False)


def test_a_module_that_cannot_be_copied_has_no_permuted_weights():
    module = build("aot", PICTURE | {"classes": 3, "depth": 2}, source="a test")
    model = wp.wrap(module, name="a")
    module.lock = threading.Lock()
    with pytest.raises(ProbeError, match=r"of a cannot be permuted: it cannot be copied \(Type"):
        next(nulls.draws(model, nulls.PERMUTED, 1, seed=0))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested:UserWarning")
@pytest.mark.parametrize(
    "weight",
    [
        lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]),
        lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)], layout=torch.jagged),
        lambda: torch.zeros(3, dtype=torch.uint8).view(torch.bits8),
        lambda: torch.ones(1, 1).expand(10**6, 10**6),
    ],
    ids=["nested", "jagged", "bits", "expanded"],
)
def test_a_weight_that_cannot_be_permuted_is_named(weight):
    vit = small_vit()
    vit.beside = nn.Parameter(weight(), requires_grad=False)
    model = wp.wrap(vit, name="a")
    with pytest.raises(ProbeError, match="of a cannot be permuted: (it cannot be|'beside')"):
        next(nulls.draws(model, nulls.PERMUTED, 1, seed=0))


def test_other_settings_are_one_change_away():
    model = wp.load("vit-tiny-fmnist")
    base = usual(model, eps=0.1, lam=0.1)
    told = [setting.told(orthonormal=False) for setting in around(model, base)]
    assert told == [
        "eps=0.05", "eps=0.2", "lam=0.01", "lam=1", "prenorm=False", "basis=qkv:q", "basis=qkv:v",
        "class_token=False", "first_layer=3", "first_layer=1", "orthonormal=True",
    ]  # fmt: skip


def test_two_models_of_one_name_are_refused():
    model = wp.load("crate-tiny-fmnist")
    with pytest.raises(wp.ProbeError, match="of the same model"):
        wp.audit([model, model], IMAGES, **FEW)


def test_options_that_move_numbers_are_recorded_and_a_name_stands_for_a_model(tmp_path):
    found = wp.audit(
        "crate-tiny-fmnist", IMAGES, prenorm=False, batch_size=6, thresholds={"cosine": 0.3}, **FEW
    )
    assert found.settings["prenorm"] is False
    assert "batch_size" not in found.settings
    found.save(tmp_path)
    again = Audit.load(tmp_path)
    assert again.settings["prenorm"] is False
    assert again.thresholds.cosine == 0.3


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (
            {"convention": "paper"},
            "an audit has no option 'convention': each claim says for itself",
        ),
        ({"null": "gaussian"}, "null is 'gaussian'"),
        ({"eps": [0.1, 0.5]}, "eps has several values"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"draws": 1}, "draws is 1"),
        ({"first_layer": 0}, "first_layer is 0"),
        ({"dtype": ["float32", "bfloat16"]}, "dtype has several values: a verdict is of one"),
    ],
)
def test_options_that_claims_fix_are_refused(option, told):
    with pytest.raises(ProbeError, match=told):
        wp.audit("crate-tiny-fmnist", IMAGES, **(FEW | option))


def test_steps_of_one_training_share_their_random_weights(monkeypatch):
    made = []
    own = nulls.load_random

    def counted(model, *, seed):
        made.append((model.name, seed))
        return own(model, seed=seed)

    monkeypatch.setattr(nulls, "load_random", counted)
    names = ["crate-tiny-fmnist", "crate-tiny-fmnist-init", "vit-tiny-fmnist"]
    options = {"limit": 4, "draws": 2, "robustness": False, "progress": False}
    both = wp.audit(names, "fashion-mnist", **options)
    assert [name for name, _ in made] == ["crate-tiny-fmnist"] * 2 + ["vit-tiny-fmnist"] * 2
    alone = wp.audit(names[1], "fashion-mnist", **options)
    rows = both.frame[both.frame["model"] == names[1]].reset_index(drop=True)
    assert_frame_equal(rows, alone.frame.reset_index(drop=True))
