"""Every type of transformers in the list: its sites are what the library itself computes.

A type is one line: its options, beside small sizes under whatever names its configuration has. Its
weights are random. Compared are the tokens between the layers with `hidden_states`, the attention
with `attentions`, A V with what the output map is given, and the heads with the projections.
"""

import pytest
import torch

transformers = pytest.importorskip("transformers")

import whitebox_probe as wp  # noqa: E402
from whitebox_probe.models.families._hf_inputs import pictures_of  # noqa: E402
from whitebox_probe.models.hooks import attach_taps  # noqa: E402

transformers.logging.set_verbosity_error()

SIZES = {
    "d": (32, "hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"),
    "L": (2, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "K": (4, "num_attention_heads", "n_head", "n_heads", "num_heads"),
    "h": (48, "intermediate_size", "ffn_dim", "d_ff", "n_inner", "hidden_dim", "ffn_hidden_size"),
    "h of an expert": (24, "moe_intermediate_size", "shared_expert_intermediate_size"),
    "experts": (4, "num_local_experts", "num_experts", "n_routed_experts"),
    "groups": (2, "num_key_value_heads", "num_experts_per_tok"),
    "words": (64, "vocab_size"),
    "length": (40, "max_position_embeddings", "n_positions"),
    "p": (8, "head_dim", "d_kv"),
    "side": (32, "image_size"),
    "patch": (8, "patch_size"),
    "ids": (0, "pad_token_id", "bos_token_id", "eos_token_id"),
}
PARALLEL = {"z_half"}
EXPERTS = {"mlp_hidden"}
# id -> options (`type` where it is not the id), what it lacks
TEXT = {
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 3},
    "openai-gpt": {},
    "gpt_neox": {},
    "gpt_neox-sequential": {"use_parallel_residual": False},
    "opt": {},
    "phi": {},
    "phi3": {},
    "gemma": {},
    "gemma2": {"sliding_window": 4},
    "gemma3_text": {"sliding_window": 4},
    "falcon": {},
    "falcon-grouped": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon-two-norms": {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 2},
    "falcon-sequential": {"parallel_attn": False, "multi_query": False, "alibi": True},
    "bloom": {},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "mpt": {},
    "llama": {},
    "granite": {"residual_multiplier": 0.5},
    "mistral": {"sliding_window": 4},
    "qwen2": {},
    "qwen3": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": {},
    "stablelm": {},
    "stablelm-parallel": {"use_parallel_residual": True},
    "starcoder2": {},
    "cohere": {},
    "cohere2": {},
    "glm": {},
    "glm4": {},
    "nemotron": {},
    "persimmon": {},
    "smollm3": {},
    "mixtral": {},
    "qwen2_moe": {},
    "qwen3_moe": {},
    "olmoe": {},
    "xglm": {},
    "biogpt": {},
    "bert": {},
    "albert": {"num_hidden_layers": 4},
    "albert-groups": {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    "roberta": {},
    "xlm-roberta": {},
    "camembert": {},
    "electra": {},
    "distilbert": {},
    "mpnet": {},
    "modernbert": {},
    "deberta-v2": {},
    "deberta-v2-relative": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "roberta-prelayernorm": {},
    "roformer": {},
    "esm": {"position_embedding_type": "rotary"},
    "t5": {},
    "mt5": {},
    "clip_text_model": {},
}
VISION = {
    "vit": {},
    "deit": {},
    "dinov2": {},
    "dinov2-swiglu": {"use_swiglu_ffn": True},
    "dinov2_with_registers": {"num_register_tokens": 3},
    "dinov3_vit": {"num_register_tokens": 2},
    "vit_mae": {"mask_ratio": 0.0},
    "vit_msn": {},
    "ijepa": {},
    "clip_vision_model": {},
    "siglip_vision_model": {},
    "data2vec-vision": {},
    "dpt": {"backbone_out_indices": [0, 1], "is_hybrid": False, "neck_hidden_sizes": [8, 8, 8, 8]},
    "beit": {"use_relative_position_bias": True},
    "beit-shared": {"use_shared_relative_position_bias": True},
}
ALL = [*TEXT, *VISION]
DTYPES = [(torch.float64, 1e-12), (torch.float32, 5e-6)]


def small(name, attention, dtype):
    """A small network of the type, whose parameters all matter; the encoder of two."""
    if name == "xglm" and dtype == torch.float64:
        pytest.skip("its own code does not run in float64")
    options = (TEXT | VISION)[name]
    known = transformers.CONFIG_MAPPING
    kind = name
    while kind not in known:
        kind = kind.rpartition("-")[0]
    has = {*known[kind]().to_dict(), *known[kind].attribute_map}
    sizes = {key: size for size, *keys in SIZES.values() for key in keys if key in has}
    for key in known[kind].attribute_map:  # the same under another name
        if known[kind].attribute_map[key] in sizes:
            sizes.pop(key, None)
    torch.manual_seed(0)
    module = transformers.AutoModel.from_config(
        known[kind](**sizes | options), attn_implementation=attention, dtype=dtype
    ).eval()
    module.config._experts_implementation = "eager"
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module.get_encoder() if module.config.is_encoder_decoder else module


def inputs_of(module):
    pictures = pictures_of(module)
    if pictures is None:
        return torch.randint(3, 60, (2, 9))
    weight = next(module.parameters())
    return torch.randn(2, pictures.channels, *pictures.size, dtype=weight.dtype)


def run(module, **more):
    """The model, what it records of one pass, what the library gives of it, the contexts."""
    model, inputs = wp.wrap(module), inputs_of(module)
    contexts = {}
    taps = [("context", n, model.layer(n).context) for n in range(1, model.layers + 1)]

    def keep(name, layer, tensor):
        contexts[layer] = tensor.clone()

    if module.main_input_name == "input_ids":
        more["use_cache"] = False  # a cache hands keys on in another layout, and another last digit
    with torch.no_grad(), attach_taps(module, taps, keep), wp.record(model, model.sites) as rec:
        out = module(inputs, output_hidden_states=True, **more)
    return model, rec, out, contexts


def apart(got, want):
    """By how much two tensors differ, relative to the largest value."""
    assert got.shape == want.shape
    return float((got.double() - want.double()).abs().max() / want.double().abs().max())


@pytest.mark.parametrize(("dtype", "bound"), DTYPES, ids=["float64", "float32"])
@pytest.mark.parametrize("name", ALL)
def test_the_tokens_between_layers_and_the_attention_are_the_librarys(name, dtype, bound):
    module = small(name, "eager", dtype)
    model, rec, out, contexts = run(module, output_attentions=True)
    last = model.layers
    states = out.hidden_states[-last - 1 :]
    norms = [torch.nn.Identity()]
    norms += [m for n, m in module.named_modules() if "norm" in n.lower() or "ln_f" in n]
    for layer in range(1, last + 1):
        assert apart(rec["z_in", layer], states[layer - 1]) <= bound
        ends = [rec["z_out", layer]]
        if layer == last:  # some give the last one behind the model's last norm
            with torch.no_grad():
                ends = [n(ends[0]) for n in norms if _takes(n, model.dims.dim)]
        assert min(apart(end, states[layer]) for end in ends) <= bound
        A, V = rec["attn_weights", layer], rec["heads_v", layer]
        assert apart(A, out.attentions[layer - 1]) <= bound
        V = V.repeat_interleave(A.shape[1] // V.shape[1], dim=1)
        made = (A.to(V.dtype) @ V).transpose(1, 2).flatten(2)
        assert apart(made, contexts[layer]) <= bound
        assert model.layer(layer).causal == (not bool(A.triu(1).any()))


def _takes(norm, dim):
    weight = getattr(norm, "weight", None)
    return weight is None or weight.shape == (dim,)


@pytest.mark.parametrize("name", ALL)
def test_heads_are_the_projections_and_updates_add(name):
    model, rec, _, _ = run(small(name, "eager", torch.float64))
    for layer in range(1, model.layers + 1):
        for b in "qkv":
            U = model.subspaces(layer, f"qkv:{b}")
            off = rec[f"heads_{b}", layer] - rec["attn_in", layer].unsqueeze(1) @ U
            assert float((off - off[:1, :, :1]).abs().max()) < 1e-12, "all but one bias a head"
        if model.layer(layer).after is None and "z_half" in model.sites:
            half = rec["z_in", layer] + rec["attn_out", layer]
            assert apart(half, rec["z_half", layer]) < 1e-12


@pytest.mark.parametrize("name", ALL)
def test_the_attention_of_the_fused_form_is_that_of_the_written_out_one(name):
    eager = small(name, "eager", torch.float64)
    try:
        fused = small(name, "sdpa", torch.float64)
    except ValueError:
        pytest.skip("transformers has no fused form of it")
    if name == "falcon-sequential":
        pytest.skip("its fused form folds the bias of positions into the mask, and is refused")
    torch.manual_seed(1)
    _, want, _, _ = run(eager)
    torch.manual_seed(1)
    model, got, _, _ = run(fused)
    for layer in range(1, model.layers + 1):
        # Some types take the softmax in float32 when it is written out, whatever their weights.
        assert apart(got["attn_weights", layer], want["attn_weights", layer]) <= 1e-6


@pytest.mark.parametrize("name", ALL)
def test_recording_changes_no_bit(name):
    module = small(name, "eager", torch.float32)
    model, inputs = wp.wrap(module), inputs_of(module)
    with torch.no_grad():
        torch.manual_seed(0)
        before = module(inputs).last_hidden_state
        torch.manual_seed(0)
        with wp.record(model, model.sites):
            during = module(inputs).last_hidden_state
    assert torch.equal(before, during)


@pytest.mark.parametrize("name", VISION)
def test_a_picture_becomes_a_grid_behind_its_prefix(name):
    module = small(name, "eager", torch.float32)
    model, inputs = wp.wrap(module), inputs_of(module)
    with torch.no_grad(), wp.record(model, ["z_in"]) as rec:
        module(inputs)
    assert rec["z_in", 1].shape[1] == model.prefix_tokens + 16
    assert model.grid(inputs) == (None if name == "vit_mae" else (4, 4))
    has_class = name not in ("ijepa", "siglip_vision_model")
    assert model.class_index == (0 if has_class else None)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_type_that_writes_and_fills_no_masks_is_causal(attention):
    kind = transformers.CONFIG_MAPPING["doge"]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = kind(intermediate_size=48, vocab_size=64, num_key_value_heads=2, **sizes)
    assert not hasattr(config, "is_decoder")
    module = transformers.AutoModel.from_config(config, attn_implementation=attention).eval()
    model = wp.wrap(module)
    assert model.layer(1).causal
    with torch.no_grad(), wp.record(model, ["attn_weights"]) as rec:
        module(torch.randint(3, 60, (2, 9)))
    assert not bool(rec["attn_weights", 2].triu(1).any())
    with torch.no_grad():
        module.layers[1].input_residual.mul_(1.5)
    with pytest.raises(wp.ProbeError, match="layer 2 .*that is not simply added"):
        wp.wrap(module)


def test_a_masked_autoencoder_that_hides_nothing_has_its_patches_in_order():
    config = transformers.ViTMAEConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        image_size=16, patch_size=4, mask_ratio=0.0,
    )  # fmt: skip
    network = transformers.ViTMAEModel(config).eval()
    images = torch.randn(4, 3, 16, 16)
    embeddings = network.embeddings
    with torch.no_grad():
        want = embeddings.patch_embeddings(images) + embeddings.position_embeddings[:, 1:]
    model = wp.wrap(network)
    with wp.record(model, ["z_in"], [1]) as recording:
        wp.probe(model, images, ["token_norm"], fast=False, progress=False)
    torch.testing.assert_close(recording["z_in", 1][-4:, 1:], want)
