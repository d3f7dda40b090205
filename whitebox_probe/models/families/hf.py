"""Language models of transformers: sites, the bases of their head projections, their files."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, float32, nn

from whitebox_probe._core.errors import LoadWarning
from whitebox_probe.checkpoints import HEADS, listed
from whitebox_probe.models.anatomy import Dims, Layer, Tap
from whitebox_probe.models.families._hf_blocks import AFTER, Blocks, check_blocks, find, sample
from whitebox_probe.models.families._qkv import QKV, QkvAnatomy, biased
from whitebox_probe.models.families._steps import attention_weights
from whitebox_probe.models.family import Family, Recognised
from whitebox_probe.models.hub import configuration, transformers
from whitebox_probe.models.weights import affine, applied, shape_of

# Beside the base model: what tasks put on top of it.
_TASKS = (
    *("lm_head.", "cls.", "score.", "classifier.", "qa_outputs.", "generator_predictions."),
    *("discriminator_predictions.", "transform.", "predictions.", "dense.", "out_proj."),
)
_BOOKKEEPING = ("architectures", "dtype", "torch_dtype", "transformers_version")
_BUFFERS = (".attn.bias", ".attn.masked_bias", ".position_ids", ".rotary_emb.inv_freq")
# What no file holds, for the types that a file alone is recognised as.
_RELEASED: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    },
    "bert": {"hidden_act": "gelu", "layer_norm_eps": 1e-12},
    "roberta": {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "pad_token_id": 1},
}
_GPT2 = {
    "wte.weight": 2,
    "wpe.weight": 2,
    "h.0.mlp.c_fc.weight": 2,
    "h.0.attn.c_attn.weight": 2,
}
_BERT = {
    "embeddings.word_embeddings.weight": 2,
    "embeddings.position_embeddings.weight": 2,
    "encoder.layer.0.intermediate.dense.weight": 2,
    "embeddings.token_type_embeddings.weight": 2,
    "encoder.layer.0.attention.self.query.weight": 2,
}


class HfAnatomy(QkvAnatomy):
    """Blocks as those of GPT-2, BERT or Llama; names and numbers are both checked.

    A block with other parts, or whose updates are not simply added, is refused. `heads_q`,
    `heads_k` and `heads_v` are the linear projections, before any query-key norm or rotation; with
    grouped queries there are fewer key and value heads than K.

    GPT-2 and Llama are pre-norm: x + attn(norm(x)), then x + mlp(norm(x)). **BERT is post-norm**:
    norm(x + attn(x)), then norm(x + mlp(x)). There `attn_in` is `z_in`, `z_half` and `z_out` are
    the tokens after the norm, `mlp_in` is `z_half`, `attn_out` is still the update alone, and no
    normalisation stands in front of the attention.

    `attn_weights` are computed from queries and keys, with the causal mask where the model is
    causal and no padding mask: give windows without padding.
    """

    absent = QkvAnatomy.absent | {
        "attn_weights": "queries and keys are rotated after their projection, which is not repeated"
        " here",
        "code": "its MLP is no dictionary step; record 'mlp_hidden'",
    }

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the configuration and the first block; a window may have any length.

        Raises: SiteError that names the part of the block that is not understood.
        """
        blocks = find(module)
        check_blocks(module, blocks)
        return Dims(
            layers=blocks.count,
            dim=blocks.dim,
            heads=blocks.heads,
            dim_head=blocks.dim_head,
            tokens=None,
        )

    def layer(self, module: nn.Module, number: int) -> Layer:
        """A block, read at modules that every attention implementation calls."""
        blocks = find(module)
        at, pattern = partial(blocks.at, number), blocks.pattern
        norm, after = pattern.norm1, None
        if pattern.after:
            first, second = (module.get_submodule(at(path)) for path in AFTER)
            after = (first, second)
        return Layer(
            number,
            _taps(blocks, number) | _head_taps(module, blocks, number),
            norm=module.get_submodule(blocks.at(number, norm)) if norm else None,
            bases=partial(_subspaces, module, blocks, number),
            exempt=_exempt(module, blocks, number),
            second=Tap(at(pattern.second), "output"),
            context=Tap(at(pattern.context[0]), pattern.context[1]) if pattern.context else None,
            after=after,
            causal=blocks.causal,
        )

    def trial(self, module: nn.Module) -> Callable[[], object]:
        """A few token ids."""
        return partial(module, sample(module), use_cache=False)

    def prefix_tokens(self, module: nn.Module) -> int:
        """None for causal models; the start token ([CLS]) of a framed window for encoders."""
        return 0 if find(module).causal else 1


class HfFamily(Family):
    """Causal models and encoders of transformers whose blocks are those of GPT-2, BERT or Llama.

    Input is token ids (B, n). Files with one `model.safetensors` are read; a task's head is not
    built.
    """

    name = "hf"
    reads = HfAnatomy
    example = tuple(
        {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 23,
            "max_position_embeddings": 20,
            "bos_token_id": 0,
            "eos_token_id": 0,
        }
        | kind
        for kind in (
            {"model_type": "gpt2"},
            {"model_type": "bert"},
            {"model_type": "llama", "num_key_value_heads": 1},
        )
    )
    tested = (
        "sites against what transformers itself returns, with random weights, for GPT-2, BERT, "
        "RoBERTa, ELECTRA, Llama, Mistral, Qwen2 and Qwen3; saved folders and bare files of "
        "GPT-2 and BERT. `minilm-l6` was run: sentences of one meaning lie near each other "
        "(marker `weights`)"
    )
    assumed_from = "the released models of this type have them"
    fingerprints = tuple(
        {f"{prefix}{key}": rank for key, rank in marks.items()}
        for marks, prefixes in ((_GPT2, ("", "transformer.")), (_BERT, ("", "bert.")))
        for prefix in prefixes
    )

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a base model by name (`model`), or by `model_type` and its configuration's options.

        `attn_implementation` is passed on to transformers.
        """
        arguments = dict(arch)
        chosen = {}
        if "attn_implementation" in arguments:
            chosen["attn_implementation"] = arguments.pop("attn_implementation")
        config = configuration(arguments)
        return transformers().AutoModel.from_config(config, dtype=float32, **chosen)

    def matches(self, module: nn.Module) -> bool:
        """A model of transformers that takes token ids."""
        library: Any = sys.modules.get("transformers")
        if library is None or not isinstance(module, library.PreTrainedModel):
            return False
        try:
            return isinstance(module.get_input_embeddings(), nn.Embedding)
        except NotImplementedError:
            return False

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """Activation and norms' eps of the released models; a config.json states its own."""
        return {} if "model" in arch else dict(_RELEASED.get(str(arch.get("model_type")), {}))

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """GPT-2 by its fused d x 3d projection; BERT by its names, with `bert.` or without."""
        if not self.marked(shapes):
            return None
        prefix = "bert." if any(key.startswith("bert.") for key in shapes) else "transformer."
        named = {key.removeprefix(prefix): shape for key, shape in shapes.items()}
        arch: dict[str, Any]
        asked: dict[str, tuple[Any, ...]] = {}
        if "h.0.attn.c_attn.weight" in named:
            words, positions, hidden, fused = (named[key] for key in _GPT2)
            if fused[1] != 3 * fused[0]:
                return None
            arch = {"model_type": "gpt2", "n_inner": hidden[1]}
            layers = {key.split(".")[1] for key in named if key.startswith("h.")}
        else:
            words, positions, hidden, types, _ = (named[key] for key in _BERT)
            arch = {"intermediate_size": hidden[0], "type_vocab_size": types[0]}
            if prefix == "bert." or types[0] == 2:
                arch["model_type"] = "bert"
            else:  # RoBERTa's names are the same without their prefix, and its positions shifted
                asked["model_type"] = ("bert", "roberta")
            layers = {key.split(".")[2] for key in named if key.startswith("encoder.layer.")}
        arch |= {
            "hidden_size": words[1],
            "num_hidden_layers": len(layers),
            "vocab_size": words[0],
            "max_position_embeddings": positions[0],
        }
        return Recognised(arch, inner=words[1], ask=asked)

    def stated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Of a config.json everything: each option may change what a model computes."""
        if "model_type" not in arguments:
            return {}
        names = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers"}
        names |= {"n_positions": "max_position_embeddings"}
        told = {names.get(key, key): value for key, value in arguments.items()}
        kind = told["model_type"]
        if kind not in transformers().CONFIG_MAPPING:
            return {"model_type": kind}
        known = transformers().CONFIG_MAPPING[kind]()
        left = {*HEADS, *_BOOKKEEPING}
        if kind == "gpt2" and told.get("n_inner") is None:
            left.add("n_inner")  # four times the width, as the tensors have it
        kept = {k: v for k, v in told.items() if k not in left and hasattr(known, k)}
        return kept | {"model_type": kind}

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the model's width."""
        return {"num_attention_heads": heads}

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Take the base model's tensors, under the names that it has today.

        What a task's head holds is left out, and so are masks and positions that older files hold;
        `gamma` and `beta` are the old names of a norm's weight and bias. A pooler without weights
        in the file is taken out of the module: random weights would stand there.
        """
        network: Any = module
        prefix = f"{network.base_model_prefix}."
        if any(key.startswith(prefix) for key in weights):
            weights = {k[len(prefix) :]: t for k, t in weights.items() if k.startswith(prefix)}
        weights = {_renamed(key): tensor for key, tensor in weights.items()}
        if getattr(network, "pooler", None) is not None and not any(
            key.startswith("pooler.") for key in weights
        ):
            network.pooler = None
        expected = network.state_dict()
        return {k: t for k, t in weights.items() if k in expected or not k.endswith(_BUFFERS)}

    def notes(
        self, weights: Mapping[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> list[LoadWarning]:
        """Which tensors beside the base model are of no known head."""
        network: Any = module
        prefix = f"{network.base_model_prefix}."
        told = [key for key in weights if not key.startswith((prefix, *_TASKS))]
        if not told or not any(key.startswith(prefix) for key in weights):
            return []
        warning = LoadWarning(
            f"{len(told)} tensors of the file were left out",
            f"they stand beside the base model, and are of no known head: {listed(told)}",
            "Check their names if they belong to it; every other tensor is loaded",
        )
        return [warning]


def _renamed(key: str) -> str:
    stem, _, last = key.rpartition(".")
    return f"{stem}.{ {'gamma': 'weight', 'beta': 'bias'}.get(last, last) }" if stem else key


def _taps(blocks: Blocks, number: int) -> dict[str, Tap]:
    """The sites of a block's stream."""
    at = partial(blocks.at, number)
    pattern = blocks.pattern
    down = Tap(at(pattern.down), "input")
    taps = {
        "z_in": Tap(at(""), "input"),
        "attn_out": Tap(at(pattern.update), "output"),
        "mlp_hidden": down,
        "z_out": Tap(at(""), "output"),
    }
    if pattern.after:
        half = Tap(at(pattern.after), "output")
        taps |= {"attn_in": Tap(at(pattern.attention), "input"), "z_half": half, "mlp_in": half}
    else:
        taps |= {
            "attn_in": Tap(at(pattern.norm1), "output"),
            "z_half": Tap(at(pattern.norm2), "input"),
            "mlp_in": Tap(at(pattern.norm2), "output"),
        }
    return taps


def _subspaces(module: nn.Module, blocks: Blocks, number: int, basis: str) -> Tensor:
    """U (K, d, p): rows k*p to (k+1)*p of the named projection's weight, as (out, in)."""
    which = "qkv".index(basis[-1])
    paths = blocks.pattern.projections
    fused = len(paths) == 1
    path = paths[0] if fused else paths[which]
    weight, _ = affine(module.get_submodule(blocks.at(number, path)))
    if fused:
        weight = weight.chunk(3)[which]
    return weight.unflatten(0, (-1, blocks.dim_head)).mT  # (K, d, p)


def _exempt(module: nn.Module, blocks: Blocks, number: int) -> dict[str, str]:
    """What does not hold in a block, by its pattern, and why."""
    pattern = blocks.pattern
    linears = [module.get_submodule(blocks.at(number, path)) for path in pattern.projections]
    found = biased(getattr(linear, "bias", None) for linear in linears)
    if pattern.after:
        found["attention_adds"] = "the block is post-norm: z_half is z_in + attn_out, normalised"
    if len(linears) > 1 and shape_of(linears[1])[0] != blocks.heads * blocks.dim_head:
        found["heads_for_each"] = "groups of heads share one head of keys and of values"
    return found


def _head_taps(module: nn.Module, blocks: Blocks, layer: int) -> dict[str, Tap]:
    """The tokens under each head's projections, and the attention where nothing rotates them."""
    pattern, p = blocks.pattern, blocks.dim_head
    scale = _scale(module, blocks, layer)
    paths = [blocks.at(layer, path) for path in pattern.projections]

    def heads(projected: Tensor) -> Tensor:  # (B, n, K*p) -> (B, K, n, p)
        return projected.unflatten(-1, (-1, p)).transpose(1, 2)

    if len(paths) == 1:

        def third(which: int, projected: Tensor) -> Tensor:  # (B, n, 3*K*p) -> (B, K, n, p)
            return heads(projected.chunk(3, dim=-1)[which])

        def fused_weights(projected: Tensor) -> Tensor:  # (B, n, 3*K*p) -> (B, K, n, n)
            q, k = third(0, projected), third(1, projected)
            return attention_weights(q, k, causal=blocks.causal, scale=scale)

        taps = {f"heads_{b}": Tap(paths[0], "output", partial(third, i)) for i, b in QKV}
        return taps | {"attn_weights": Tap(paths[0], "output", fused_weights)}

    taps = {f"heads_{b}": Tap(paths[i], "output", heads) for i, b in QKV}
    if pattern.positions == "rotated":
        return taps
    query, key = (module.get_submodule(path) for path in paths[:2])

    def weights(x: Tensor) -> Tensor:  # (B, n, d) -> (B, K, n, n)
        # Not by calling the two modules, which would run their hooks a second time.
        q, k = (heads(applied(linear, x)) for linear in (query, key))
        return attention_weights(q, k, causal=blocks.causal, scale=scale)

    return taps | {"attn_weights": Tap(blocks.at(layer, pattern.attention), "input", weights)}


def _scale(module: nn.Module, blocks: Blocks, layer: int) -> float:
    """The scale of queries times keys; GPT-2 has two options for it."""
    config: Any = module.config
    scale = blocks.dim_head**-0.5 if getattr(config, "scale_attn_weights", True) else 1.0
    return scale / layer if getattr(config, "scale_attn_by_inverse_layer_idx", False) else scale
