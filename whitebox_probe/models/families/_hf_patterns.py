"""Where the parts of a transformers block are: one row for each kind of block.

A block is taken only if its parts are exactly those of a row. Names alone would let through a block
that scales its residual: what it computes is verified (`models/verify.py`).
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from whitebox_probe._core.errors import SiteError

DOWN = (
    *("down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "wo", "Wo", "lin2", "w2"),
    *("weights_out", "linear_out", "output_linear"),
)
"""Names of the last linear map of an MLP."""
EXPERTS = ("experts", "router", "gate", "shared_expert", "shared_experts")
"""Names of what an MLP of several experts has."""
FIX = "Use a model whose blocks are of a known kind, or map its modules with wrap(module, sites=...)"


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
        given: an option of the configuration that tells two kinds with the same parts apart.
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
    given: tuple[str, Any] | None = None

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
        given=("model_type", "openai-gpt"),
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
    _pre("Granite", *_LLAMA, scale=("residual_multiplier", "residual_multiplier")),
    _pre("Llama", *_LLAMA),
    _pre(
        "BEiT with positions", *_VIT, scale=_LAMBDA, parts=frozenset({*_VIT, "relative_position_bias"})
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
    _parallel("GPT-NeoX", *_NEOX, given=("use_parallel_residual", True)),
    _pre("GPT-NeoX (sequential)", *_NEOX, given=("use_parallel_residual", False)),
    _pre("Bloom", *_BLOOM, second="mlp.dense_4h_to_h"),
    _parallel("Falcon", "input_layernorm", "self_attention", "input_layernorm", "mlp"),
    _parallel("Falcon (two norms)", "ln_attn", "self_attention", "ln_mlp", "mlp"),
    _parallel("Phi", "input_layernorm", "self_attn", "input_layernorm", "mlp"),
    _parallel("GPT-J", "ln_1", "attn", "ln_1", "mlp"),
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


def pattern_of(block: nn.Module, config: Any) -> Pattern:
    """The pattern that a block is of.

    Raises: SiteError that names the part by which it departs from the nearest one.
    """
    names = {name for name, part in block.named_children() if _counts(part)}
    title = type(block).__name__
    fitting = [p for p in PATTERNS if names <= p.parts <= _children(block)]
    whole = [
        p
        for p in fitting
        if all(_has(block, path) for path in p.paths()) and _given(block, p, config)
    ]
    if whole:
        return whole[0]
    if fitting:
        raise SiteError(*_missing(block, fitting[0]))
    nearby = min(PATTERNS, key=lambda p: len(p.parts ^ names))
    told = [f"without '{name}'" for name in sorted(nearby.parts - _children(block))]
    told += [f"with '{name}'" for name in sorted(names - nearby.parts)]
    raise SiteError(
        f"the blocks of {title} are not understood",
        f"they have the parts of a {nearby.name} block {', '.join(told)}",
        FIX,
    )


def down_of(block: nn.Module, pattern: Pattern) -> str | None:
    """The path of the MLP's last linear map; None where each token passes experts of its own.

    Raises: SiteError.
    """
    if pattern.down:
        return pattern.down
    inside = {name for name, _ in block.get_submodule(pattern.mlp).named_children()}
    if inside & set(EXPERTS):
        return None
    for name in DOWN:
        if name in inside:
            return f"{pattern.mlp}.{name}"
    raise SiteError(
        f"the '{pattern.mlp}' of {type(block).__name__} is not understood",
        f"it has no '{DOWN[0]}' nor another last map that is known, only "
        + ", ".join(sorted(inside)),
        FIX,
    )


def _counts(part: nn.Module) -> bool:
    """Whether a part must be in the table: it has parameters."""
    return next(part.parameters(), None) is not None


def _children(block: nn.Module) -> set[str]:
    return {name for name, _ in block.named_children()}


def _given(block: nn.Module, pattern: Pattern, config: Any) -> bool:
    """Whether options of the configuration, and attributes of the block, are a pattern's."""
    if not all(hasattr(block, name) for name in pattern.scale or ()):
        return False
    return pattern.given is None or getattr(config, pattern.given[0], None) == pattern.given[1]


def _missing(block: nn.Module, pattern: Pattern) -> tuple[str, str, str]:
    """What a block lacks that has all parts of a pattern by name."""
    path = next((path for path in pattern.paths() if not _has(block, path)), None)
    if path is None:  # then an option is another one
        name, wanted = pattern.given or ("", None)
        return (
            f"the blocks of {type(block).__name__} are not understood",
            f"they are of a {pattern.name} block only with {name}={wanted}",
            FIX,
        )
    above, _, name = path.rpartition(".")
    while not _has(block, above):
        above, _, name = above.rpartition(".")
    here = ", ".join(child for child, _ in block.get_submodule(above).named_children())
    return (
        f"the {repr(above) if above else 'block'} of {type(block).__name__} is not understood",
        f"it has no '{name}', only {here}",
        FIX,
    )


def _has(block: nn.Module, path: str) -> bool:
    try:
        block.get_submodule(path)
    except AttributeError:
        return False
    return True
