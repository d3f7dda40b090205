"""Folders that save_pretrained and others wrote: loaded, or one line that says what to do."""

import json
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers")

import whitebox_probe as wp  # noqa: E402
from whitebox_probe._core.errors import LoadWarning, ProbeError  # noqa: E402

SIZES = {
    "vocab_size": 23,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def network():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).eval()


def state(folder, **changes):
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def only(folder, name, start):
    network().config.save_pretrained(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(start)


def code(folder):
    network().save_pretrained(folder)
    state(folder, model_type="mine", auto_map={"AutoConfig": "c.C", "AutoModel": "m.M"})
    for name in ("c.py", "m.py"):
        (folder / name).write_text("raise SystemExit('this code was run')")


def of_timm(folder):
    network().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))


def adapter(folder):
    network().config.save_pretrained(folder)
    stated = {"base_model_name_or_path": "some/llama"}
    (folder / "adapter_config.json").write_text(json.dumps(stated))
    (folder / "adapter_model.safetensors").write_bytes(b"")


def heads(folder):
    network().save_pretrained(folder)
    state(folder, num_attention_heads=3)


REFUSED = {
    "code of its own": (code, "made by code that comes with it.*'mine'; such code is not run"),
    "of timm": (of_timm, "is a model of timm.*arch='timm:vit_tiny_patch16_224'"),
    "an adapter": (adapter, "holds an adapter, and not the model.*of 'some/llama'.*wrap"),
    "heads that do not share": (heads, "cannot be read: .*not a multiple of the number of"),
    "gguf": (lambda f: only(f, "m.gguf", b"GGUF"), "its weights are in m.gguf, of another format"),
    "onnx": (lambda f: only(f, "onnx/m.onnx", b"1"), "m.onnx, of another format"),
    "a variant": (
        lambda f: network().save_pretrained(f, variant="fp16"),
        r"model.fp16.safetensors, a variant.*variant='fp16'",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_that_is_not_read_says_why_in_one_line(kind, tmp_path, monkeypatch):
    make, told = REFUSED[kind]
    make(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    with pytest.raises(ProbeError, match=told) as caught:
        wp.load(f"hf:{tmp_path}")
    assert len(str(caught.value).splitlines()) == 1


VIT = {**SIZES, "image_size": 12, "patch_size": 4}
# Of these the library has renamed or merged weights since their files were written.
FEWER = {
    "vit": (lambda: transformers.ViTModel(transformers.ViTConfig(**VIT)), {}),
    "vit of a task": (
        lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**VIT)),
        {},
    ),
    "deit": (lambda: transformers.DeiTModel(transformers.DeiTConfig(**VIT)), {}),
    "mixtral": (
        lambda: transformers.MixtralModel(
            transformers.MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=3)
        ),
        {},
    ),
    "clip's images": (lambda: clip(), {"tower": "vision_model"}),
    "clip's text": (lambda: clip(), {"tower": "text_model"}),
    "llama": (network, {}),
    # Of its own names some begin as the base model's do, and others not.
    "dinov3": (lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**VIT)), {}),
}


def clip():
    text = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = transformers.CLIPConfig(vision_config=VIT, text_config=SIZES | text, projection_dim=8)
    return transformers.CLIPModel(config)


@pytest.mark.parametrize("kind", FEWER)
def test_fewer_layers_than_the_weights_hold_are_refused(kind, tmp_path):
    """Weights that no layer takes were dropped, and the network measured was a shorter one."""
    make, options = FEWER[kind]
    make().save_pretrained(tmp_path)
    assert wp.load(f"hf:{tmp_path}", **options).layers == 2
    parts = {"vision_model": "vision_config", "text_model": "text_config"}
    fewer = {"num_hidden_layers": 1}
    if part := parts.get(options.get("tower", "")):
        fewer = {part: json.loads((tmp_path / "config.json").read_text())[part] | fewer}
    state(
        tmp_path,
        **fewer,
        **({"out_features": None, "out_indices": None} if kind == "dinov3" else {}),
    )
    with pytest.raises(ProbeError, match=r"does not fit the architecture: \d+ unexpected: \w.*1\."):
        wp.load(f"hf:{tmp_path}", **options)


BART = {
    **{"vocab_size": 30, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24},
    **{"decoder_ffn_dim": 24, "max_position_embeddings": 40, "pad_token_id": 1},
    **{"bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2},
}
T5 = {"vocab_size": 30, "d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "d_kv": 8}


@pytest.mark.parametrize("size", [20, 40])
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: transformers.T5EncoderModel(transformers.T5Config(**T5)), {}),
        (
            lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)),
            {"tower": "encoder"},
        ),
        (lambda: transformers.BartModel(transformers.BartConfig(**BART)), {"tower": "encoder"}),
    ],
    ids=["t5's encoder", "t5", "bart"],
)
def test_another_vocabulary_is_refused_where_the_embedding_is_shared(make, options, size, tmp_path):
    """The library tells of the weight that is shared, and fills what shares it with random ones."""
    network = make()
    network.save_pretrained(tmp_path)
    loaded = wp.load(f"hf:{tmp_path}", **options).module.get_input_embeddings().weight
    assert torch.equal(loaded, network.get_input_embeddings().weight)
    state(tmp_path, vocab_size=size)
    with pytest.raises(ProbeError, match="fit the architecture: 1 missing: embed_tokens.weight"):
        wp.load(f"hf:{tmp_path}", **options)


def test_layers_of_a_task_s_encoder_are_counted(tmp_path):
    config = transformers.BartConfig(**BART)
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    state(tmp_path, encoder_layers=1)
    with pytest.raises(ProbeError, match="does not fit the architecture: 16 unexpected: layers.1"):
        wp.load(f"hf:{tmp_path}", tower="encoder")


TASKS = {
    "ViTForImageClassification": ("ViTConfig", VIT),
    "ViTForMaskedImageModeling": ("ViTConfig", VIT),
    "DeiTForImageClassification": ("DeiTConfig", VIT),
    "Dinov2ForImageClassification": ("Dinov2Config", VIT),
    "CLIPVisionModelWithProjection": ("CLIPVisionConfig", VIT),
    "CLIPTextModelWithProjection": (
        "CLIPTextConfig",
        SIZES | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
    ),
    "BertForMaskedLM": ("BertConfig", SIZES),
    "RobertaForSequenceClassification": ("RobertaConfig", SIZES),
    "MixtralForCausalLM": ("MixtralConfig", SIZES | {"num_key_value_heads": 2}),
    "Data2VecVisionForImageClassification": ("Data2VecVisionConfig", VIT),
}


@pytest.mark.filterwarnings("ignore:.*were left out")
@pytest.mark.parametrize("kind", TASKS)
def test_what_a_task_put_on_top_is_left_out(kind, tmp_path):
    config, sizes = TASKS[kind]
    made = getattr(transformers, kind)(getattr(transformers, config)(**sizes))
    made.save_pretrained(tmp_path)
    found = wp.load(f"hf:{tmp_path}").module
    own = dict(made.named_parameters())
    known = {name.removeprefix(f"{made.base_model_prefix}."): each for name, each in own.items()}
    for name, each in found.named_parameters():
        assert torch.equal(each, known.get(name, own.get(name)))


def test_a_layer_that_is_chosen_may_be_counted_from_the_last(tmp_path):
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VIT),
        text_config=transformers.LlamaConfig(**SIZES),
        image_token_index=3,
    )
    made = transformers.LlavaForConditionalGeneration(config)
    made.save_pretrained(tmp_path)
    assert wp.load(f"hf:{tmp_path}", tower="vision_tower").layers == 2
    assert wp.load(f"hf:{tmp_path}", tower="language_model").layers == 2


@pytest.mark.parametrize("change", ["gone", "of another shape", "flat", "too many", "of integers"])
def test_experts_that_cannot_be_put_together_are_told(change, tmp_path):
    from safetensors.torch import load_file, save_file

    FEWER["mixtral"][0]().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    name = next(key for key in tensors if ".experts.0." in key)
    expert = tensors.pop(name)
    others = {"of another shape": expert[:3].clone(), "flat": expert.flatten()}
    others |= {"too many": expert, "of integers": expert.long()}
    if change != "gone":
        tensors[name] = others[change]
    if change == "too many":
        tensors[name.replace(".experts.0.", ".experts.9.")] = expert.clone()
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(
        ProbeError, match="cannot be put together|does not fit the architecture"
    ) as told:
        wp.load(f"hf:{tmp_path}")
    assert len(str(told.value)) < 500


def test_a_norm_by_its_old_name_and_its_new_one_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "embeddings.LayerNorm.weight"
    tensors["embeddings.LayerNorm.gamma"] = tensors[name] + 1
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ProbeError, match=f"two tensors of the file are '{name}'"):
        wp.load(f"hf:{tmp_path}")
    del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = wp.load(f"hf:{tmp_path}").module.state_dict()[name]
    assert torch.equal(found, tensors["embeddings.LayerNorm.gamma"])


def test_biases_that_a_configuration_denies_are_refused(tmp_path):
    FEWER["vit"][0]().save_pretrained(tmp_path)
    state(tmp_path, qkv_bias=False)
    with pytest.raises(ProbeError, match="does not fit the architecture: 6 unexpected: "):
        wp.load(f"hf:{tmp_path}")


@pytest.mark.parametrize("value", [True, "1", [True]])
@pytest.mark.parametrize("name", ["rope_parameters", "rope_scaling"])
def test_what_is_said_of_rotary_positions_is_numbers(name, value, tmp_path):
    """True would be a base of 1, and other numbers."""
    network().save_pretrained(tmp_path)
    usual = {"rope_type": "default", "rope_theta": 500.0}
    state(tmp_path, **{name: usual})
    wp.load(f"hf:{tmp_path}")
    state(tmp_path, **{name: usual | {"rope_theta": value}})
    with pytest.raises(ProbeError, match=r"cannot be read: .*rope_theta of its rotary positions"):
        wp.load(f"hf:{tmp_path}")


def test_one_last_token_where_others_have_several(tmp_path):
    config = transformers.GlmConfig(**SIZES, num_key_value_heads=2, head_dim=8)
    config.pad_token_id, config.eos_token_id = 0, 1
    transformers.GlmModel(config).save_pretrained(tmp_path)
    assert wp.load(f"hf:{tmp_path}").layers == 2


def test_an_encoder_that_was_saved_alone_is_built_alone(tmp_path):
    config = transformers.T5Config(d_model=16, num_layers=2, num_heads=2, d_ff=20, vocab_size=23)
    torch.manual_seed(0)
    encoder = transformers.T5EncoderModel(config).eval()
    encoder.save_pretrained(tmp_path)
    model, ids = wp.load(f"hf:{tmp_path}"), torch.arange(2, 12).view(2, 5)
    with torch.inference_mode():
        assert torch.equal(model.module(ids)[0], encoder(ids)[0])


EIGHT = {
    "vit": "encoder.layer.1.attention.attention.key.weight",
    "mixtral": "model.layers.1.block_sparse_moe.experts.0.w2.weight",
}


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
@pytest.mark.parametrize("model", EIGHT)
def test_weights_of_eight_bits_are_not_converted(tmp_path, model, kind):
    """The library would take them for numbers without a scale."""
    from safetensors.torch import load_file, save_file

    if model == "vit":
        FEWER["vit"][0]().save_pretrained(tmp_path)
    else:
        mixtral().save_pretrained(tmp_path)
    assert wp.load(f"hf:{tmp_path}")
    tensors = load_file(tmp_path / "model.safetensors")
    (key,) = (key for key in tensors if key.endswith(EIGHT[model]))
    tensors[key] = torch.ones(tensors[key].shape).to(kind)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ProbeError, match="type that no network .* computes in|does not fit|put tog"
    ):
        wp.load(f"hf:{tmp_path}")


def mixtral():
    config = transformers.MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=2)
    return transformers.MixtralForCausalLM(config)


def bert():
    return transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))


def gpt2():
    sizes = {"vocab_size": 23, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))


def registers():
    sizes = {key: value for key, value in VIT.items() if key != "intermediate_size"}
    config = transformers.Dinov2WithRegistersConfig(**sizes, mlp_ratio=2)
    return transformers.Dinov2WithRegistersModel(config)


QUERY = "encoder.layer.0.attention.attention.query.weight"
TWICE = {  # what makes a folder, one of its names, and another name for the same tensor
    "older and today's": ("vit", QUERY, "layers.0.attention.q_proj.weight"),
    "of a task": ("vit of a task", f"vit.{QUERY}", "vit.layers.0.attention.q_proj.weight"),
    "bare": ("vit of a task", f"vit.{QUERY}", "layers.0.attention.q_proj.weight"),
    "bare and older": ("vit of a task", f"vit.{QUERY}", QUERY),
    "mixtral": (
        mixtral,
        "model.layers.1.block_sparse_moe.gate.weight",
        "model.layers.1.mlp.gate.weight",
    ),
    "one with a prefix": (
        registers,
        "encoder.layer.1.norm1.bias",
        "dinov2_with_registers.encoder.layer.1.norm1.bias",
    ),
    "gpt2": (gpt2, "transformer.h.0.ln_1.weight", "h.0.ln_1.weight"),
    "bert": (bert, "bert.embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma"),
}


COPIED = ("older and today's", "of a task", "bare", "mixtral", "one with a prefix")
"""Of which the library takes one of two equal tensors; the others' names are compared first."""
OF_TODAY = ("older and today's", "of a task", "bare", "one with a prefix")


@pytest.mark.parametrize("turned", [False, True], ids=["last", "first"])
@pytest.mark.parametrize("kind", TWICE)
def test_a_tensor_by_two_names_is_refused(tmp_path, kind, turned):
    """The library takes one of them, which one is not told; a copy does no harm."""
    from safetensors.torch import load_file

    make, key, other = TWICE[kind]
    if (
        kind in OF_TODAY
        and "layers.0.attention.q_proj.weight" not in FEWER["vit"][0]().state_dict()
    ):
        pytest.skip("this version of transformers has the older names")
    torch.manual_seed(0)
    (FEWER[make][0] if isinstance(make, str) else make)().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    for changed in (0, 1):
        more = {other: tensors[key] + changed}
        both = more | tensors if turned else tensors | more
        torch.save(both, tmp_path / "pytorch_model.bin")
        if not changed and kind in COPIED:
            assert wp.load(f"hf:{tmp_path}")
            continue
        with pytest.raises(ProbeError, match="two tensors of the file are"):
            wp.load(f"hf:{tmp_path}")


@pytest.mark.parametrize("kind", [torch.uint8, torch.bool, torch.float32])
@pytest.mark.parametrize("model", ["gpt_neox", "gpt_neo"])
def test_masks_that_older_files_hold_are_left_out(tmp_path, model, kind):
    from safetensors.torch import load_file

    if model == "gpt_neox":
        made = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SIZES))
        place = "gpt_neox.layers.{}.attention."
    else:
        sizes = {"vocab_size": 23, "hidden_size": 16, "num_layers": 2, "num_heads": 2}
        kinds = [[["global", "local"], 1]]
        config = transformers.GPTNeoConfig(**sizes, attention_types=kinds)
        made, place = transformers.GPTNeoForCausalLM(config), "transformer.h.{}.attn.attention."
    made.save_pretrained(tmp_path)
    plain = wp.load(f"hf:{tmp_path}").module.state_dict()
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    for n in range(2):
        tensors[f"{place.format(n)}bias"] = torch.ones(1, 1, 8, 8).tril().to(kind)
        tensors[f"{place.format(n)}masked_bias"] = torch.tensor(-1e9)
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    found = wp.load(f"hf:{tmp_path}").module.state_dict()
    assert all(torch.equal(plain[key], found[key]) for key in plain)
    tensors[f"{place.format(0)}bias"] = torch.ones(16)  # a bias of its own is no mask
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(ProbeError, match="1 unexpected"):
        wp.load(f"hf:{tmp_path}")


@pytest.mark.parametrize("layers", [1, 2, 6])
def test_a_head_may_have_more_tensors_than_the_base_model(tmp_path, layers):
    sizes = VIT | {"num_hidden_layers": layers}
    config = transformers.ViTMAEConfig(
        **sizes, decoder_hidden_size=8, decoder_num_attention_heads=2
    )
    transformers.ViTMAEForPreTraining(config).save_pretrained(tmp_path)
    with pytest.warns(LoadWarning, match="tensors of the file were left out: .*decoder"):
        assert wp.load(f"hf:{tmp_path}", mask_ratio=0.0).layers == layers
