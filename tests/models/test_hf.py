"""Models of transformers: outputs untouched, and each site what transformers itself computes."""

import json
import sys
from dataclasses import replace

import pytest
import torch

transformers = pytest.importorskip("transformers")

import whitebox_probe as wp  # noqa: E402
from whitebox_probe._core.errors import (  # noqa: E402
    BasisError,
    CheckpointError,
    DataError,
    LoadWarning,
    MissingDependency,
    SiteError,
)
from whitebox_probe.checkpoints import architecture  # noqa: E402
from whitebox_probe.models.registry import build, families  # noqa: E402
from whitebox_probe.sites import SITES  # noqa: E402

transformers.logging.set_verbosity_error()

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "vocab_size": 23,
    "max_position_embeddings": 20,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
KINDS = {
    "gpt2": {"model_type": "gpt2"},
    "gpt2-scaled": {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True, "n_inner": 40},
    "gpt2-unscaled": {"model_type": "gpt2", "scale_attn_weights": False},
    "bert": {"model_type": "bert", "intermediate_size": 40, "pad_token_id": 0},
    "bert-decoder": {"model_type": "bert", "intermediate_size": 40, "is_decoder": True},
    "roberta": {"model_type": "roberta", "intermediate_size": 40},
    "electra": {"model_type": "electra", "intermediate_size": 40, "embedding_size": 16},
    "llama": {"model_type": "llama", "intermediate_size": 40, "num_key_value_heads": 1},
    "mistral": {"model_type": "mistral", "intermediate_size": 40, "num_key_value_heads": 2},
    "qwen2": {"model_type": "qwen2", "intermediate_size": 40, "num_key_value_heads": 2},
    "qwen3": {"model_type": "qwen3", "intermediate_size": 40, "num_key_value_heads": 1},
}
POST_NORM = {"bert", "bert-decoder", "roberta", "electra"}
ROTATED = {"llama", "mistral", "qwen2", "qwen3"}


def small(kind, **changes):
    model = build("hf", SMALL | KINDS.get(kind, {"model_type": kind}) | changes, source="test")
    with torch.no_grad():  # so that no bias and no norm is trivial
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def run(kind, **changes):
    model = wp.wrap(small(kind, attn_implementation="eager", **changes), name=kind)
    ids = torch.randint(2, 23, (2, 9))
    with wp.record(model, model.sites) as rec:
        out = model.module(ids, output_hidden_states=True, output_attentions=True)
    return model, rec, out


def layers_of(model):
    stack = [m for m in model.module.modules() if isinstance(m, torch.nn.ModuleList)]
    return stack[0]


@pytest.mark.parametrize("kind", KINDS)
def test_sites_are_what_transformers_itself_gives(kind):
    model, rec, out = run(kind)
    assert len(out.hidden_states) == 4
    for layer in (1, 2, 3):
        torch.testing.assert_close(rec["z_in", layer], out.hidden_states[layer - 1])
        z_out = rec["z_out", layer]
        if layer == 3 and kind not in POST_NORM:  # transformers gives it after the final norm
            final = next(m for n, m in model.module.named_children() if n in ("ln_f", "norm"))
            z_out = final(z_out)
        torch.testing.assert_close(z_out, out.hidden_states[layer])
        torch.testing.assert_close(
            rec["attn_weights", layer], out.attentions[layer - 1], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("kind", [k for k in KINDS if k.startswith("gpt2")])
def test_the_sites_of_gpt2_follow_from_its_weights(kind):
    model, rec, _ = run(kind)
    for layer, block in enumerate(layers_of(model), start=1):
        assert torch.equal(rec["attn_in", layer], block.ln_1(rec["z_in", layer]))
        torch.testing.assert_close(
            rec["z_in", layer] + rec["attn_out", layer], rec["z_half", layer]
        )
        assert torch.equal(rec["mlp_in", layer], block.ln_2(rec["z_half", layer]))
        hidden = block.mlp.act(block.mlp.c_fc(rec["mlp_in", layer]))
        torch.testing.assert_close(rec["mlp_hidden", layer], hidden)
        update = block.mlp(rec["mlp_in", layer])
        torch.testing.assert_close(rec["z_half", layer] + update, rec["z_out", layer])
        weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias  # (d, 3d): Q | K | V
        for i, b in enumerate("qkv"):
            for k in range(2):
                here = slice(16 * i + 8 * k, 16 * i + 8 * (k + 1))
                want = rec["attn_in", layer] @ weight[:, here] + bias[here]
                got = rec[f"heads_{b}", layer][:, k]
                torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
                assert torch.equal(model.subspaces(layer, f"qkv:{b}")[k], weight[:, here])
        out = (rec["attn_weights", layer] @ rec["heads_v", layer]).transpose(1, 2).flatten(2)
        torch.testing.assert_close(block.attn.c_proj(out), rec["attn_out", layer])
        assert model.layer(layer).norm is block.ln_1
    assert model.prefix_tokens == 0


@pytest.mark.parametrize("kind", sorted(POST_NORM))
def test_bert_is_post_norm(kind):
    model, rec, _ = run(kind)
    for layer, block in enumerate(layers_of(model), start=1):
        assert torch.equal(rec["attn_in", layer], rec["z_in", layer])
        attended = rec["z_in", layer] + rec["attn_out", layer]
        half = block.attention.output.LayerNorm(attended)
        torch.testing.assert_close(rec["z_half", layer], half)
        assert torch.equal(rec["mlp_in", layer], rec["z_half", layer])
        torch.testing.assert_close(rec["mlp_hidden", layer], block.intermediate(half))
        hidden = rec["mlp_hidden", layer]
        torch.testing.assert_close(block.output(hidden, half), rec["z_out", layer])
        for b, name in zip("qkv", ("query", "key", "value"), strict=True):
            linear = getattr(block.attention.self, name)
            want = linear(rec["attn_in", layer]).view(2, 9, 2, 8).transpose(1, 2)
            torch.testing.assert_close(rec[f"heads_{b}", layer], want)
            U = model.subspaces(layer, f"qkv:{b}")
            assert torch.equal(U[1], linear.weight[8:].T)
        out = (rec["attn_weights", layer] @ rec["heads_v", layer]).transpose(1, 2).flatten(2)
        dense = block.attention.output.dense
        torch.testing.assert_close(dense(out), rec["attn_out", layer])
        assert model.layer(layer).norm is None
    assert model.prefix_tokens == (0 if kind == "bert-decoder" else 1)


@pytest.mark.parametrize("kind", sorted(ROTATED))
def test_the_sites_of_llamas_follow_from_their_weights(kind):
    model, rec, _ = run(kind)
    for layer, block in enumerate(layers_of(model), start=1):
        torch.testing.assert_close(rec["attn_in", layer], block.input_layernorm(rec["z_in", layer]))
        torch.testing.assert_close(
            rec["z_in", layer] + rec["attn_out", layer], rec["z_half", layer]
        )
        mlp_in = block.post_attention_layernorm(rec["z_half", layer])
        torch.testing.assert_close(rec["mlp_in", layer], mlp_in)
        torch.testing.assert_close(rec["z_half", layer] + block.mlp(mlp_in), rec["z_out", layer])
        for b in "qkv":
            linear = getattr(block.self_attn, f"{b}_proj")
            p = model.dims.dim_head
            want = linear(rec["attn_in", layer]).unflatten(-1, (-1, p)).transpose(1, 2)
            torch.testing.assert_close(rec[f"heads_{b}", layer], want)
            U = model.subspaces(layer, f"qkv:{b}")
            assert torch.equal(U[0], linear.weight[:p].T)
        assert model.layer(layer).norm is block.input_layernorm
        out = rec["attn_weights", layer] @ rec["heads_v", layer].repeat_interleave(
            2 // rec["heads_v", layer].shape[1], dim=1
        )
        updated = block.self_attn.o_proj(out.transpose(1, 2).flatten(2))
        torch.testing.assert_close(updated, rec["attn_out", layer])


@pytest.mark.parametrize("kind", KINDS)
def test_every_site_has_its_stated_shape(kind):
    model, rec, _ = run(kind)
    heads = {"num_key_value_heads": 2} | KINDS[kind]
    sizes = {"B": 2, "n": 9, "d": 16, "p": model.dims.dim_head}
    sizes["h"] = 64 if kind in ("gpt2", "gpt2-unscaled") else 40
    for site in model.sites:
        grammar = SITES[site].shape.strip("()").split(", ")
        sizes["K"] = heads["num_key_value_heads"] if site in ("heads_k", "heads_v") else 2
        assert rec[site, 2].shape == tuple(sizes[s] for s in grammar), site


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_recording_changes_no_bit_of_the_output(kind, attention):
    model = wp.wrap(small(kind, attn_implementation=attention))
    ids = torch.randint(2, 23, (2, 9))
    before = model.module(ids).last_hidden_state
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules()]
    with wp.record(model, model.sites):
        assert torch.equal(model.module(ids).last_hidden_state, before)
    assert torch.equal(model.module(ids).last_hidden_state, before)
    after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules()]
    assert hooks == after


def test_wrapping_leaves_the_training_mode_and_no_hook():
    model = small("gpt2").train()
    wp.wrap(model)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "BertForMaskedLM", "LlamaForCausalLM"])
def test_a_model_with_a_head_is_wrapped_too(name):
    kind = name[:4].lower().rstrip("f").replace("llam", "llama")
    config = small(kind).config
    whole = getattr(transformers, name)(config).eval()
    model = wp.wrap(whole)
    assert (model.family.name, model.layers, model.dims.heads) == ("hf", 3, 2)
    result = wp.probe(
        model, torch.randint(2, 23, (3, 9)), metrics=["compression", "l0"], progress=False
    )
    assert result.run["tokens"] == 9


@pytest.mark.parametrize("kind", ["gpt2", "bert", "llama"])
@pytest.mark.parametrize("convention", ["paper", "official"])
def test_a_tensor_of_ids_is_probed(kind, convention):
    model = wp.wrap(small(kind))
    ids = torch.randint(2, 23, (5, 9))
    result = wp.probe(
        model,
        ids,
        metrics=["compression", "l0"],
        convention=convention,
        batch_size=2,
        progress=False,
    )
    assert len(result.samples) == 5


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("mamba", {}, "a state space that tokens are scanned through"),
        ("nystromformer", {}, "an attention through landmarks"),
        ("longformer", {"attention_window": 4}, "an attention in windows that cuts the text"),
        ("big_bird", {}, "an attention over blocks of tokens, some drawn at random"),
        ("fnet", {}, "a Fourier transform and no attention"),
        ("bros", {}, "cannot be tried on a small input: You have to specify bbox"),
        ("deberta", {}, "it has no q_proj, k_proj and v_proj, nor .* only in_proj"),
        ("gpt2", {"add_cross_attention": True}, "with 'crossattention', with 'ln_cross_attn'"),
        ("bert", {"chunk_size_feed_forward": 4}, "run in chunks"),
        ("t5", {}, r"has 2 stacks of layers.*Pass one of its towers: \.encoder, \.decoder"),
    ],
)
def test_blocks_that_are_something_else_are_refused_by_the_part(kind, changes, told):
    if kind == "t5":
        config = transformers.T5Config(d_model=16, num_layers=1, num_heads=2, d_ff=20, vocab_size=9)
        model = transformers.T5Model(config)
    elif kind in ("mamba", "fnet", "bros"):  # their configurations lack some of the small sizes
        config = transformers.CONFIG_MAPPING[kind]
        sizes = {name: size for name, size in SMALL.items() if name in config().to_dict()}
        model = transformers.AutoModel.from_config(config(**sizes)).eval()
    else:
        model = small(kind, **changes)
    with pytest.raises(SiteError, match=told):
        wp.wrap(model)


@pytest.mark.parametrize(
    ("name", "millions"), [("gpt2_base", 124_439_808), ("bert_base", 108_891_648)]
)
def test_published_sizes_have_the_published_number_of_parameters(name, millions):
    family, arch = architecture(name)
    with torch.device("meta"):
        model = build(family, arch, source=name)
        pooler = getattr(model, "pooler", None)
        count = sum(p.numel() for p in model.parameters())
        count -= sum(p.numel() for p in pooler.parameters()) if pooler else 0
        assert wp.wrap(model).layers == 12
    assert count == millions


def saved(folder, kind, **changes):
    """A folder as save_pretrained writes it, from the model with a head where there is one."""
    base = small(kind, **changes)
    head = {"gpt2": "GPT2LMHeadModel", "bert": "BertForMaskedLM", "llama": "LlamaForCausalLM"}
    model = getattr(transformers, head[kind])(base.config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", ["gpt2", "bert", "llama"])
def test_a_saved_folder_loads_by_hf(tmp_path, kind):
    whole = saved(tmp_path / "mine", kind)
    model = wp.load(f"hf:{tmp_path / 'mine'}")
    assert (model.name, model.family.name) == ("mine", "hf")
    ids = torch.randint(2, 23, (2, 9))
    want = whole.base_model(ids).last_hidden_state
    assert torch.equal(model.module(ids).last_hidden_state, want)
    assert model.sha256
    again = wp.load(f"hf:{tmp_path / 'mine'}", weights="random", seed=1)
    assert not torch.equal(again.module(ids).last_hidden_state, want)


def test_a_model_in_the_hubs_cache_needs_no_network(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--gpt"
    saved(repository / "snapshots" / "abc", "gpt2")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    model = wp.load("hf:some/gpt")
    assert (model.name, model.layers) == ("gpt", 3)
    eager = wp.load("hf:some/gpt", attn_implementation="eager")
    assert eager.module.config._attn_implementation == "eager"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        wp.load("hf:some/other")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one repository, some/vit, whose files are fetched one by one into the cache."""
    from huggingface_hub import constants, errors

    from whitebox_probe.checkpoints import _services

    cache, there = tmp_path / "cache", tmp_path / "there"
    there.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    snapshot = cache / "models--some--vit" / "snapshots" / "abc"
    asked = []

    def download(repo, file, *, revision, **_):
        asked.append(file)
        if not (there / file).is_file():
            absent = errors.RemoteEntryNotFoundError
            error = absent.__new__(absent)
            error.args = (f"no {file}",)
            raise error
        snapshot.mkdir(parents=True, exist_ok=True)
        (snapshot.parents[1] / "refs").mkdir(exist_ok=True)
        (snapshot.parents[1] / "refs" / "main").write_text("abc")
        (snapshot / file).write_bytes((there / file).read_bytes())
        return str(snapshot / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(_services, "unreachable", lambda _: "")
    config = transformers.CONFIG_MAPPING["vit"](
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        image_size=24, patch_size=8,
    )  # fmt: skip
    transformers.ViTModel(config).save_pretrained(there)
    return there, asked


def test_a_vision_model_of_the_hub_comes_with_its_image_processor(hub):
    there, asked = hub
    stated = {"size": {"height": 24, "width": 24}, "image_mean": [0.1] * 3, "image_std": [0.2] * 3}
    (there / "preprocessor_config.json").write_text(json.dumps(stated | {"resample": 3}))
    model = wp.load("hf:some/vit")
    assert set(asked) == {"config.json", "preprocessor_config.json", "model.safetensors"}
    said = wp.Preprocess(24, (0.1,) * 3, (0.2,) * 3, "RGB", 1.0, "bicubic", "squash")
    assert replace(model.preprocess, processor=None) == said
    asked.clear()
    assert wp.load("hf:some/vit").preprocess == model.preprocess
    assert not asked


def test_a_vision_model_without_an_image_processor_loads(hub, monkeypatch):
    assert wp.load("hf:some/vit").preprocess is None
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.warns(LoadWarning, match="preprocessor_config.json is not here.*imagenet"):
        assert wp.load("hf:some/vit").layers == 2


def write(state, file, kind):
    from safetensors.torch import save_file

    if kind == "gpt2-old":  # as OpenAI's file on the hub: no prefix, and the masks
        state = {k.removeprefix("transformer."): v for k, v in state.items()}
        for i in range(3):
            state[f"h.{i}.attn.bias"] = torch.ones(20, 20).tril()[None, None]
    if kind == "bert-old":  # as Google's file on the hub: old names of the norms, and the positions
        names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for old, new in names.items():
            state = {k.replace(old, new): v for k, v in state.items()}
        state["bert.embeddings.position_ids"] = torch.arange(20)[None]
    save_file({k: v.contiguous().clone() for k, v in state.items()}, file)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("gpt2-old", "GPT2Model"),
        ("gpt2", "GPT2LMHeadModel"),
        ("bert-old", "BertForPreTraining"),
        ("bert", "BertForMaskedLM"),
        ("bert", "BertModel"),
    ],
)
def test_a_file_alone_is_recognised(tmp_path, kind, name):
    whole = getattr(transformers, name)(small(kind.removesuffix("-old")).config).eval()
    write(whole.state_dict(), tmp_path / "x.safetensors", kind)
    with pytest.warns(wp.AssumedWarning, match=r"=gelu.* the released models of this type"):
        model = wp.load(tmp_path / "x.safetensors", heads=2)
    assert model.family.name == "hf"
    ids = torch.randint(2, 23, (2, 9))
    got, want = model.module(ids), whole.base_model(ids)
    assert torch.equal(got.last_hidden_state, want.last_hidden_state)
    assert (model.module.pooler is None) if name == "BertForMaskedLM" else True


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s, k: s.update({f"{k}s": s.pop(k)}), "1 missing: h.1.ln_1.weight; 1 unexpected: "),
        (lambda s, k: s.pop(k), "1 missing: h.1.ln_1.weight"),
        (lambda s, k: s.update({k: torch.zeros(3)}), r"wrongly shaped: h.1.ln_1.weight \(3,\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_keys(tmp_path, change, told):
    state = small("gpt2").state_dict()
    change(state, "h.1.ln_1.weight")
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=told):
        wp.load(tmp_path / "x.pt", heads=2)


def test_a_roberta_without_its_prefix_is_not_taken_for_a_bert(tmp_path):
    whole = small("roberta", type_vocab_size=1)
    write(whole.state_dict(), tmp_path / "x.safetensors", "roberta")
    with pytest.raises(CheckpointError, match="model_type=bert or roberta"):
        wp.load(tmp_path / "x.safetensors", heads=2)
    with pytest.warns(wp.AssumedWarning, match="layer_norm_eps=1e-05 and pad_token_id=1"):
        model = wp.load(tmp_path / "x.safetensors", heads=2, model_type="roberta")
    assert model.module.config.pad_token_id == 1


def folder_of(kind, folder):
    configs = {
        "T5": {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 20, "vocab_size": 23},
        "Bart": {"d_model": 16, "vocab_size": 23, "encoder_layers": 1, "decoder_layers": 1},
    }
    config = getattr(transformers, f"{kind}Config")(**configs[kind])
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("T5", r"2 stacks of layers.*tower='encoder'"),
        ("Bart", r"2 stacks of layers.*tower='encoder'"),
    ],
)
def test_a_folder_of_another_kind_is_told_the_part_and_no_keys(tmp_path, kind, told):
    folder_of(kind, tmp_path / "m")
    with pytest.raises(SiteError, match=told):
        wp.load(f"hf:{tmp_path / 'm'}")


def test_shards_and_pytorchs_own_files_are_read(tmp_path):
    whole = saved(tmp_path / "mine", "gpt2")
    ids = torch.randint(2, 23, (2, 9))
    want = whole.base_model(ids).last_hidden_state
    whole.save_pretrained(tmp_path / "sharded", max_shard_size="5KB")
    shards = sorted((tmp_path / "sharded").glob("*.safetensors"))
    assert len(shards) > 2
    model = wp.load(f"hf:{tmp_path / 'sharded'}")
    assert torch.equal(model.module(ids).last_hidden_state, want)
    assert len(model.sha256) == 64
    shards[1].rename(tmp_path / "away")
    with pytest.raises(CheckpointError, match=f"files are missing, such as {shards[1].name}"):
        wp.load(f"hf:{tmp_path / 'sharded'}")

    folder, state = tmp_path / "mine", whole.state_dict()
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no weights.*weights='random'"):
        wp.load(f"hf:{folder}")
    assert wp.load(f"hf:{folder}", weights="random").layers == 3
    torch.save(state, folder / "pytorch_model.bin")
    assert torch.equal(wp.load(f"hf:{folder}").module(ids).last_hidden_state, want)
    (folder / "pytorch_model.bin").unlink()
    state.pop("lm_head.weight")
    names = {key: f"pytorch_model-{i % 2}.bin" for i, key in enumerate(state)}
    for file in set(names.values()):
        torch.save({key: state[key] for key in names if names[key] == file}, folder / file)
    with pytest.raises(CheckpointError, match="no index says which is where"):
        wp.load(f"hf:{folder}")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    assert torch.equal(wp.load(f"hf:{folder}").module(ids).last_hidden_state, want)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "../b"}}))
    with pytest.raises(
        CheckpointError, match="not beside it: the tensor a should be in a file named '../b'"
    ):
        wp.load(f"hf:{folder}")


def test_a_folder_of_checkpoints_names_one(tmp_path):
    saved(tmp_path / "checkpoint-5", "gpt2")
    with pytest.raises(CheckpointError, match="Load one of its checkpoints, such as hf:.*-5"):
        wp.load(f"hf:{tmp_path}")


def test_quantised_weights_are_told(tmp_path):
    saved(tmp_path, "llama")
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="are quantised: .*bitsandbytes.*to wrap"):
        wp.load(f"hf:{tmp_path}")


def test_a_folder_without_a_tokenizer_is_told_so(tmp_path):
    saved(tmp_path / "mine", "gpt2")
    model = wp.load(f"hf:{tmp_path / 'mine'}")
    (tmp_path / "book.txt").write_text("In the beginning was the token. " * 200)
    with pytest.raises(DataError, match="cannot be had: there is no tokenizer"):
        wp.probe(model, tmp_path / "book.txt", progress=False)


class TestErrors:
    def test_an_option_that_transformers_would_ignore(self):
        with pytest.raises(CheckpointError, match="'n_heads' is no option of a gpt2.*'n_head'"):
            build("hf", {"model_type": "gpt2", "n_heads": 3}, source="x")

    def test_an_unknown_type(self):
        with pytest.raises(CheckpointError, match="no model_type 'gpt22'"):
            build("hf", {"model_type": "gpt22"}, source="x")

    def test_a_name_that_is_none(self):
        with pytest.raises(CheckpointError, match="no model's name"):
            wp.load("hf:../../etc/x y")

    def test_a_folder_with_a_broken_configuration(self, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing-known"}))
        with pytest.raises(CheckpointError, match="configuration of .* cannot be read"):
            wp.load(f"hf:{tmp_path}", weights="random")

    def test_a_folder_without_weights(self, tmp_path):
        small("gpt2").config.save_pretrained(tmp_path)
        with pytest.raises(CheckpointError, match="holds no weights: there is no model"):
            wp.load(f"hf:{tmp_path}")

    def test_sites_and_bases_that_it_lacks(self):
        model = wp.wrap(small("gpt2"))
        with pytest.raises(SiteError, match="record 'heads_q'"):
            model.tap("heads", 1)
        with pytest.raises(SiteError, match="record 'mlp_hidden'"):
            model.tap("code", 1)
        with pytest.raises(BasisError, match="qkv:k"):
            model.subspaces(1, "native")

    def test_without_transformers(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingDependency, match=r"whitebox-probe\[text\]"):
            build("hf", {"model_type": "gpt2"}, source="x")
        assert not families()["hf"].matches(torch.nn.Linear(2, 2))


def test_a_type_of_no_pattern_is_refused_before_its_weights_are_fetched(hub):
    there, asked = hub
    config = transformers.MambaConfig(vocab_size=23, hidden_size=16, num_hidden_layers=2)
    config.save_pretrained(there)
    with pytest.raises(SiteError, match="MambaModel"):
        wp.load("hf:some/vit")
    assert set(asked) == {"config.json"}
