"""Where the parts of a transformers block are: one row for each kind of block."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Pattern:
    """Paths inside a block; those of its attention's projections are in `_hf_attention.py`.

    Attributes:
        name: what errors call it.
        parts: the children that a block of this pattern has, but for those without parameters.
        attention: the module that projects, or the one around it. update: whose output is added to
            the stream; the attention's output map where it is empty.
        norm1, norm2: the norm in front of the attention and of the MLP; empty where there is none.
        mlp: the MLP; down: its last linear map, found by name (`DOWN`) where it is empty.
        second: whose output the second step adds; the MLP where it is empty.
        after: the norms behind the two sums, in post-norm blocks.
        half: where the tokens between the steps pass; None in parallel blocks, which have none.
        scale: attributes of the block by which the two updates are multiplied.
        given: an option of the configuration that tells two kinds with the same parts apart, and
            the values that it has here.
    """

    name: str
    parts: frozenset[str]
    attention: str
    mlp: str
    norm1: str = ""
    norm2: str = ""
    update: str = ""
    second: str = ""
    down: str = ""
    after: tuple[str, str] | None = None
    half: tuple[str, Literal["input", "output"]] | None = None
    scale: tuple[str, str] | None = None
    given: tuple[str, tuple[Any, ...]] | None = None

    def paths(self) -> list[str]:
        """All of its paths."""
        named = (self.attention, self.mlp, self.norm1, self.norm2, self.update, self.second)
        found = [*named, self.down, *(self.after or ()), self.half[0] if self.half else ""]
        return [path for path in dict.fromkeys(found) if path]


def _pre(name: str, norm1: str, attention: str, norm2: str, mlp: str, **more: Any) -> Pattern:
    """Two steps, each behind its norm."""
    parts = {path.partition(".")[0] for path in (norm1, attention, norm2, mlp)}
    given = {"parts": frozenset(parts), "half": (norm2, "input")} | more
    return Pattern(name, attention=attention, mlp=mlp, norm1=norm1, norm2=norm2, **given)


def _parallel(name: str, norm1: str, attention: str, norm2: str, mlp: str, **more: Any) -> Pattern:
    """Both steps from the tokens that enter."""
    return _pre(name, norm1, attention, norm2, mlp, **{"half": None} | more)


_LLAMA = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
_NEOX = ("input_layernorm", "attention", "post_attention_layernorm", "mlp")
_BLOOM = ("input_layernorm", "self_attention", "post_attention_layernorm", "mlp")
_BERT = frozenset({"attention", "intermediate", "output"})
_BERT_MLP: dict[str, Any] = {"down": "output.dense", "second": "output.dropout"}
_VIT = ("layernorm_before", "attention", "layernorm_after", "mlp")
_LAMBDA = ("lambda_1", "lambda_2")
_OLD_VIT = _BERT | {"layernorm_before", "layernorm_after"}
_RESIDUAL = ("residual_multiplier", "residual_multiplier")
_STEPS = ("self_attn", "feedforward")
_DINO = ("norm1", "attention", "norm2", "mlp")
_OPT = ("self_attn_layer_norm", "self_attn", "final_layer_norm", "fc1")
_OPT_MORE: dict[str, Any] = {
    "parts": frozenset({*_OPT, "fc2"}),
    "down": "fc2",
    "second": "fc2",
}

PATTERNS = (
    Pattern(
        "GPT",
        frozenset({"attn", "ln_1", "mlp", "ln_2"}),
        "attn",
        "mlp",
        after=("ln_1", "ln_2"),
        half=("ln_1", "output"),
        given=("model_type", ("openai-gpt",)),
    ),
    _pre("GPT-2", "ln_1", "attn", "ln_2", "mlp"),
    Pattern(
        "BERT",
        _BERT,
        "attention.self",
        "intermediate",
        update="attention.output.dropout",
        after=("attention.output.LayerNorm", "output.LayerNorm"),
        half=("attention", "output"),
        **_BERT_MLP,
    ),
    Pattern(
        "ALBERT",
        frozenset({"attention", "ffn", "ffn_output", "full_layer_layer_norm"}),
        "attention",
        "ffn",
        update="attention.output_dropout",
        second="ffn_output",
        down="ffn_output",
        after=("attention.LayerNorm", "full_layer_layer_norm"),
        half=("attention", "output"),
    ),
    _pre("Granite", *_LLAMA, scale=_RESIDUAL),
    _pre("Llama", *_LLAMA),
    _pre(
        "BEiT with positions",
        *_VIT,
        scale=_LAMBDA,
        parts=frozenset({*_VIT, "relative_position_bias"}),
    ),
    _pre("BEiT", *_VIT, scale=_LAMBDA),
    _pre("ViT", *_VIT),
    _pre("CLIP", "layer_norm1", "self_attn", "layer_norm2", "mlp"),
    _pre(
        "DINOv2",
        *_DINO,
        parts=frozenset({*_DINO, "layer_scale1", "layer_scale2"}),
        update="layer_scale1",
        second="layer_scale2",
    ),
    _parallel("GPT-NeoX", *_NEOX, given=("use_parallel_residual", (True,))),
    _pre("GPT-NeoX (sequential)", *_NEOX, given=("use_parallel_residual", (False,))),
    _pre("Bloom", *_BLOOM, second="mlp.dense_4h_to_h"),
    _parallel("Falcon", "input_layernorm", "self_attention", "input_layernorm", "mlp"),
    _parallel("Falcon (two norms)", "ln_attn", "self_attention", "ln_mlp", "mlp"),
    _parallel("Phi", "input_layernorm", "self_attn", "input_layernorm", "mlp"),
    _parallel("GPT-J", "ln_1", "attn", "ln_1", "mlp"),
    Pattern(
        "BART",
        attention="self_attn",
        mlp="fc1",
        after=("self_attn_layer_norm", "final_layer_norm"),
        half=("self_attn_layer_norm", "output"),
        given=("model_type", ("bart", "plbart", "marian", "blenderbot-small")),
        **_OPT_MORE,
    ),
    Pattern(
        "OPT (norms behind)",
        attention="self_attn",
        mlp="fc1",
        after=("self_attn_layer_norm", "final_layer_norm"),
        half=("self_attn_layer_norm", "output"),
        given=("do_layer_norm_before", (False,)),
        **_OPT_MORE,
    ),
    _pre("OPT", *_OPT, **_OPT_MORE),
    _pre(
        "Gemma 2",
        "input_layernorm",
        "self_attn",
        "pre_feedforward_layernorm",
        "mlp",
        parts=frozenset({*_LLAMA, "pre_feedforward_layernorm", "post_feedforward_layernorm"}),
        update="post_attention_layernorm",
        second="post_feedforward_layernorm",
    ),
    _pre(
        "GLM-4",
        *_LLAMA,
        parts=frozenset({*_LLAMA, "post_self_attn_layernorm", "post_mlp_layernorm"}),
        update="post_self_attn_layernorm",
        second="post_mlp_layernorm",
    ),
    Pattern(
        "OLMo 2",
        frozenset({"self_attn", "mlp", "post_attention_layernorm", "post_feedforward_layernorm"}),
        "self_attn",
        "mlp",
        update="post_attention_layernorm",
        second="post_feedforward_layernorm",
        half=("mlp", "input"),
    ),
    Pattern(
        "DistilBERT",
        frozenset({"attention", "sa_layer_norm", "ffn", "output_layer_norm"}),
        "attention",
        "ffn",
        after=("sa_layer_norm", "output_layer_norm"),
        half=("sa_layer_norm", "output"),
    ),
    Pattern(
        "MPNet",
        _BERT,
        "attention.attn",
        "intermediate",
        after=("attention.LayerNorm", "output.LayerNorm"),
        half=("attention.LayerNorm", "output"),
        **_BERT_MLP,
    ),
    _pre(
        "RoBERTa-PreLayerNorm",
        "attention.LayerNorm",
        "attention.self",
        "intermediate.LayerNorm",
        "intermediate",
        update="attention.output.dropout",
        parts=_BERT,
        **_BERT_MLP,
    ),
    _pre(
        "ESM",
        "attention.LayerNorm",
        "attention.self",
        "LayerNorm",
        "intermediate",
        update="attention.output.dropout",
        parts=_BERT | {"LayerNorm"},
        **_BERT_MLP,
    ),
    _pre(
        "XLM-RoBERTa-XL",
        "attention.self_attn_layer_norm",
        "attention.self",
        "LayerNorm",
        "intermediate",
        update="attention.output.dense",
        parts=_BERT | {"LayerNorm"},
        down="output.dense",
        second="output.dense",
    ),
    _pre(
        "Megatron-BERT",
        "attention.ln",
        "attention.self",
        "ln",
        "intermediate",
        update="attention.output.dropout",
        parts=_BERT | {"ln"},
        **_BERT_MLP,
    ),
    _pre(
        "data2vec",
        *_VIT[:3],
        "intermediate",
        update="attention.output.dropout",
        scale=_LAMBDA,
        parts=_OLD_VIT,
        **_BERT_MLP,
    ),
    _pre(
        "ViT (older names)",
        *_VIT[:3],
        "intermediate",
        update="attention.output.dropout",
        parts=_OLD_VIT,
        **_BERT_MLP,
    ),
    Pattern(
        "Nomic-BERT",
        frozenset({"self_attn", "post_attention_layernorm", "mlp", "post_mlp_layernorm"}),
        "self_attn",
        "mlp",
        after=("post_attention_layernorm", "post_mlp_layernorm"),
        half=("post_attention_layernorm", "output"),
    ),
    _pre("Apertus", "attention_layernorm", "self_attn", "feedforward_layernorm", "mlp"),
    _pre("VaultGemma", "input_layernorm", "self_attn", "pre_feedforward_layernorm", "mlp"),
    _pre("AIMv2", "rms_norm1", "attention", "rms_norm2", "ffn"),
    _pre(
        "T5Gemma",
        "pre_self_attn_layernorm",
        "self_attn",
        "pre_feedforward_layernorm",
        "mlp",
        parts=frozenset({f"{a}_{b}_layernorm" for a in ("pre", "post") for b in _STEPS})
        | {"self_attn", "mlp"},
        update="post_self_attn_layernorm",
        second="post_feedforward_layernorm",
    ),
    _pre(
        "HyperCLOVA X",
        *_LLAMA,
        parts=frozenset({*_LLAMA, "post_norm1", "post_norm2"}),
        update="post_norm1",
        second="post_norm2",
        scale=_RESIDUAL,
    ),
    _pre("Granite (experts)", *_LLAMA[:3], "block_sparse_moe", scale=_RESIDUAL),
    _pre("ModernBERT", "attn_norm", "attn", "mlp_norm", "mlp"),
    _pre(
        "T5",
        "layer.0.layer_norm",
        "layer.0.SelfAttention",
        "layer.1.layer_norm",
        "layer.1.DenseReluDense",
    ),
    _pre("MPT", "norm_1", "attn", "norm_2", "ffn", second="ffn.down_proj"),
)
