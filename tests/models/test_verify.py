"""What a site and a basis say is what the model did, tried once when it is wrapped."""

import copy
import time
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

import whitebox_probe as wp
from whitebox_probe._core.errors import (
    CheckpointError,
    LoadWarning,
    NonFiniteError,
    ProbeError,
    SiteError,
)
from whitebox_probe.models.folders import expect_weights
from whitebox_probe.models.registry import families

HF = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}
HF |= {"intermediate_size": 24, "bos_token_id": 0, "eos_token_id": 0}
NETWORKS = [
    pytest.param(name, i, id=f"{name}-{i}")
    for name, family in families().items()
    for i in range(len(family.example))
]


class Adapted(nn.Module):
    """A layer with a low-rank update beside it, as adapters have."""

    def __init__(self, base, out, into):
        super().__init__()
        self.base_layer, self.drop = base, nn.Dropout(0.5)
        self.in_features, self.out_features = into, out
        self.A, self.B = nn.Linear(into, 2, bias=False), nn.Linear(2, out, bias=False)

    @property
    def weight(self):
        return self.base_layer.weight

    @property
    def bias(self):
        return self.base_layer.bias

    def forward(self, x):
        return self.base_layer(x) + 5 * self.B(self.A(self.drop(x)))


def network(name, which=0):
    if name == "hf":
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    family = families()[name]
    arch = family.example[which]
    return family.build(arch).eval(), family.inputs(arch)


def projections(module):
    """Where the heads' projections are, whatever the family calls them."""
    ends = (
        "attn.qkv",
        "fn.qkv",
        "fn.proj",
        "self.qkv",
        "c_attn",
        "k_proj",
        "self.key",
        "to_qkv",
        "qkv",
    )
    ends += ("attention.key", "query_key_value")
    for path, part in list(module.named_modules()):
        if path.endswith(ends) and isinstance(getattr(part, "weight", None), torch.Tensor):
            yield path, part


def fits(model, inputs):
    """Whether U gives the heads' tokens in every layer, but for a bias."""
    with torch.no_grad(), wp.record(model, model.sites) as rec:
        model.module(inputs)
    for layer in range(1, model.layers + 1):
        for basis in model.bases:
            site = model.heads_site(basis)
            made = rec["attn_in", layer].unsqueeze(1) @ model.subspaces(layer, basis)
            apart = (rec[site, layer] - made).diff(dim=-2)
            if apart.norm() > 1e-4 * rec[site, layer].norm():
                return False
    return True


@pytest.mark.parametrize(("name", "which"), NETWORKS)
def test_an_adapter_is_part_of_u(name, which):
    module, inputs = network(name, which)
    found = list(projections(module))
    assert found
    for path, part in found:
        rows, columns = part.weight.shape
        if type(part).__name__ == "Conv1D":
            rows, columns = columns, rows
        owner, _, last = path.rpartition(".")
        setattr(module.get_submodule(owner), last, Adapted(part, rows, columns).eval())
    try:
        model = wp.wrap(module)
    except ProbeError:  # refused: no wrong number
        return
    assert fits(model, inputs)


@pytest.mark.parametrize(("name", "which"), NETWORKS)
def test_a_hook_that_changes_a_projection_is_refused_or_part_of_u(name, which):
    module, inputs = network(name, which)
    for _, part in projections(module):
        part.register_forward_hook(lambda m, args, out: out * 1.5)
    try:
        model = wp.wrap(module)
    except SiteError:  # refused: no wrong number
        return
    assert fits(model, inputs)


@pytest.mark.parametrize(("name", "which"), NETWORKS)
def test_a_parametrised_weight_is_part_of_u(name, which):
    module, inputs = network(name, which)
    for _, part in projections(module):
        torch.nn.utils.parametrizations.weight_norm(part)
        with torch.no_grad():
            part.parametrizations.weight.original0.mul_(2)
    assert fits(wp.wrap(module), inputs)


@pytest.mark.parametrize(("name", "which"), NETWORKS)
def test_trying_leaves_no_trace_and_costs_little(name, which):
    module, _ = network(name, which)
    module.train()
    list(module.modules())[1].eval()
    modes = [part.training for part in module.modules()]
    state, random = {k: v.clone() for k, v in module.state_dict().items()}, torch.get_rng_state()
    began = time.perf_counter()
    wp.wrap(module)
    assert time.perf_counter() - began < 5
    assert torch.equal(torch.get_rng_state(), random)
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(state[k], v) for k, v in module.state_dict().items())
    for part in module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("convbert", {"embedding_size": 16}),
        ("longformer", {"attention_window": 4}),
        ("nystromformer", {}),
    ],
)
def test_look_alikes_of_bert_are_refused(kind, options):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    arch = HF | {"num_attention_heads": 4, "max_position_embeddings": 32} | options
    if kind != "longformer":
        arch |= {"type_vocab_size": 2}
    config = transformers.AutoConfig.for_model(kind, **arch)
    module = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    with pytest.raises(SiteError, match="layer 1|not understood"):
        wp.wrap(module)


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("part", ["attn", "mlp"])
def test_every_layer_is_tried(layer, part):
    module, _ = network("timm_vit")
    block = module.blocks[layer - 1]
    if part == "attn":
        block.attn.scale *= 3  # the maps say 3 q k^T, fused attention 1
        block.attn.fused_attn = True
    else:
        kept = block.forward
        block.forward = lambda x, **given: kept(x, **given) * 1.1
    with pytest.raises(SiteError, match=f"layer {layer} .*(softmax|added|shape)"):
        wp.wrap(module)


def test_a_module_that_is_run_twice_is_told():
    module, _ = network("timm_vit")
    module.blocks[1].attn.q_norm = module.blocks[1].norm1
    module.blocks[1].attn.k_norm = nn.Identity()
    with pytest.raises(SiteError, match="more than once|cannot be tried"):
        wp.wrap(module)


def test_layers_that_share_a_module_are_each_read_in_their_pass():
    module, inputs = network("timm_vit")
    apart = copy.deepcopy(module)
    apart.blocks[1] = copy.deepcopy(apart.blocks[0])
    module.blocks[1] = module.blocks[0]
    shared, own = wp.wrap(module), wp.wrap(apart)
    for layers in ([1, 2], [2]):
        with torch.no_grad(), wp.record(own, own.sites, layers) as want:
            apart(inputs)
        with torch.no_grad(), wp.record(shared, shared.sites, layers) as got:
            module(inputs)
        for site in own.sites:
            assert all(torch.equal(got[site, n], want[site, n]) for n in layers), site
    assert not torch.equal(got["z_out", 2], got["z_in", 2])
    numbers = [wp.probe(m, inputs, ["l0", "compression"], progress=False) for m in (shared, own)]
    assert numbers[0].frame.drop(columns="model").equals(numbers[1].frame.drop(columns="model"))


def test_a_pass_that_ends_in_the_middle_does_not_shift_the_next():
    module, inputs = network("timm_vit")
    module.blocks[1] = module.blocks[0]
    model, stops = wp.wrap(module), iter([False, True])

    def stop(*_):
        if next(stops, False):
            raise ValueError("stop")

    handle = module.blocks[0].register_forward_pre_hook(stop)
    with torch.no_grad(), wp.record(model, ["z_out"]) as got:
        with pytest.raises(ValueError, match="stop"):
            module(inputs)
        module(inputs)
        handle.remove()
    with torch.no_grad(), wp.record(model, ["z_out"]) as want:
        module(inputs)
    assert torch.equal(got["z_out", 2], want["z_out", 2])


def test_what_fsdp_has_cut_up_is_named():
    class FSDPModule(nn.Module):
        """Named as the class that fully_shard puts into a module's."""

    module, _ = network("timm_vit")
    module.blocks[1].mlp.act = FSDPModule()
    with pytest.raises(ProbeError, match="weights are in shards .*full_state_dict"):
        wp.wrap(module)


@pytest.mark.parametrize("scale", [1, 3])
def test_what_is_compiled_is_tried_as_it_is_written(scale):
    module, _ = network("timm_vit")
    module.blocks[1].attn.scale *= scale
    module.compile(backend="eager")
    if scale == 1:
        assert wp.wrap(module).layers == 2
        return
    with pytest.raises(SiteError, match="layer 2 .*softmax"):
        wp.wrap(module)


def test_values_that_are_not_finite_are_left_to_the_measures():
    module, _ = network("timm_vit")
    with torch.no_grad():
        module.blocks[0].mlp.fc2.bias.fill_(torch.nan)
    assert wp.wrap(module).layers == 2


def _scaled(module):
    for parameter in module.parameters():
        parameter.mul_(1e18)


def _with(value):
    return lambda module: next(projections(module))[1].weight.fill_(value)


@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_with(torch.nan), "layer 1 of .* not finite: 1 of its weights hold NaN .*'.*weight'"),
        (_with(torch.inf), "layer 1 of .* not finite: 1 of its weights hold NaN .*'.*weight'"),
        (_scaled, "not finite: its parameters are finite, and what it makes of them is not"),
    ],
)
def test_attention_that_is_not_finite_is_told_as_such(change, told, which):
    module, _ = network("hf", which)
    with torch.no_grad():
        change(module)
    with pytest.raises(NonFiniteError, match=told):
        wp.wrap(module)


class _Spoilt(nn.Module):
    def forward(self, weight):
        return weight * torch.nan


def _plain(linear):
    weight = linear.weight.detach() * torch.nan
    del linear.weight
    linear.weight = weight


def _normed(linear):
    with torch.no_grad():
        linear.weight[0] = 0  # whose length is divided by
    nn.utils.parametrizations.weight_norm(linear)


@pytest.mark.parametrize(
    "change",
    [
        _plain,
        _normed,
        lambda part: register_parametrization(part, "weight", _Spoilt(), unsafe=True),
    ],
    ids=["plain", "normed", "parametrised"],
)
def test_numbers_that_fused_attention_makes_of_nan_are_refused(change):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
    config = transformers.BertConfig(
        vocab_size=60, num_attention_heads=2, attn_implementation="sdpa", **sizes
    )
    module = transformers.BertModel(config).eval()
    change(module.encoder.layer[1].attention.self.key)
    made = module(torch.arange(9)[None]).last_hidden_state
    assert made.isfinite().all()
    with pytest.raises(NonFiniteError, match="layer 2 of BertModel computes what is not finite"):
        wp.wrap(module)


def test_half_precision_is_within_its_rounding():
    for name in ("timm_vit", "crate"):
        assert wp.wrap(network(name)[0].bfloat16()).layers == 2


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_layers_are_read_merged():
    peft = pytest.importorskip("peft")
    module, inputs = network("hf", 2)
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj", "k_proj"], init_lora_weights=False, lora_alpha=64
    )
    outer = peft.get_peft_model(module, config).eval()
    inner = wp.wrap(outer)
    assert inner.module is outer.get_base_model()
    assert fits(inner, inputs)
    U = [inner.subspaces(n, "qkv:k").clone() for n in (1, 2)]
    merged = wp.wrap(outer.merge_and_unload())
    for n in (1, 2):
        assert torch.allclose(U[n - 1], merged.subspaces(n, "qkv:k"), atol=1e-5)


def test_an_adapter_beside_the_weights_is_told(tmp_path):
    module, _ = network("crate")
    torch.save(module.state_dict(), tmp_path / "x.pt")
    (tmp_path / "model.safetensors").write_bytes(b"")
    expect_weights(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        expect_weights(tmp_path)
    arch = {"family": "crate", **families()["crate"].example[0], "eta": 0.1, "lam": 0.1}
    with pytest.warns(LoadWarning, match=r"adapter_config\.json"):
        wp.load(tmp_path / "x.pt", arch=arch)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PromptTuning", "PrefixTuning", "PromptEncoder"])
def test_a_prompt_that_is_in_no_layer_is_refused_as_such(kind):
    peft = pytest.importorskip("peft")
    options = {"encoder_hidden_size": 8} if kind == "PromptEncoder" else {}
    config = getattr(peft, f"{kind}Config")(
        num_virtual_tokens=2, task_type="FEATURE_EXTRACTION", **options
    )
    outer = peft.get_peft_model(network("hf", 2)[0], config).eval()
    with pytest.raises(ProbeError, match=f"with {kind} cannot be probed.*base model alone"):
        wp.wrap(outer)


def test_an_adapter_with_a_name_of_its_own_is_found_below(tmp_path):
    module, _ = network("crate")
    for file in ("x.pt", "model.safetensors"):
        torch.save(module.state_dict(), tmp_path / file)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"mine.adapter_model\.safetensors would change"):
        expect_weights(tmp_path)
    arch = {"family": "crate", **families()["crate"].example[0], "eta": 0.1, "lam": 0.1}
    with warnings.catch_warnings():
        warnings.simplefilter("error", LoadWarning)
        wp.load(tmp_path / "x.pt", arch=arch)  # of another model, for all that is known


def test_an_adapter_below_a_saved_models_weights_is_told(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    module, _ = network("crate")
    file = tmp_path / "model.safetensors"
    safetensors.save_file({k: v.clone() for k, v in module.state_dict().items()}, file)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "adapter_config.json").write_text("{}")
    arch = {"family": "crate", **families()["crate"].example[0], "eta": 0.1, "lam": 0.1}
    with pytest.warns(LoadWarning, match=r"mine.adapter_config\.json"):
        wp.load(file, arch=arch)
