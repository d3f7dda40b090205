"""Which types of transformers are read, and how exactly: every type that can be built small.

Each has two layers, four heads and random weights, in float64 (mixtures of experts in the library's
plain form). What is recorded at `z_in` and `z_out` is compared with the library's `hidden_states`,
`attn_weights` with its `attentions`, and A V with what the output map is given.
"""

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from _rows import Row, apart
from torch import nn

import whitebox_probe as wp
from whitebox_probe.models.hooks import attach_taps

_MOST = 60_000_000  # parameters
_SMALL = {
    2: (
        *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"),
        *("decoder_layers", "depth", "num_key_value_heads", "num_experts_per_tok"),
        *("num_kv_heads",),
    ),
    4: (
        *("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"),
        *("decoder_attention_heads", "num_local_experts", "num_experts", "n_routed_experts"),
        *("moe_num_experts", "rotary_dim", "num_register_tokens"),
    ),
    8: ("head_dim", "d_kv", "patch_size"),
    24: (
        *("moe_intermediate_size", "shared_expert_intermediate_size"),
        *("expert_intermediate_size",),
    ),
    32: (
        *("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"),
        *("image_size", "embed_dim", "emb_dim", "projection_dim"),
    ),
    48: (
        *("intermediate_size", "ffn_dim", "d_ff", "n_inner", "hidden_dim", "ffn_hidden_size"),
        *("encoder_ffn_dim", "decoder_ffn_dim"),
    ),
    64: ("vocab_size",),
    96: ("max_position_embeddings", "n_positions", "max_seq_len"),
    0: ("pad_token_id", "bos_token_id", "eos_token_id"),
    1: ("n_group", "topk_group", "first_k_dense_replace", "n_shared_experts"),
}


def names() -> list[str]:
    """The types of which transformers builds a base model."""
    return sorted({c.model_type for c in transformers.MODEL_MAPPING if c.model_type})


def rows(chosen: list[str] | None = None) -> Iterator[Row]:
    """Each type built, wrapped and compared."""
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    for name in chosen or names():
        try:
            module = built(name)
        except Exception as error:  # of many kinds, each the library's own
            yield Row(name, f"not built in small: {_line(error)}")
            continue
        try:
            yield compared(name, module)
        except wp.ProbeError as error:
            yield Row(name, f"refused: {_line(error)}")
        except Exception as error:  # a fault of this package: shown, and counted as none
            yield Row(name, f"FAULT: {type(error).__name__}: {_line(error)}")


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].replace("|", "/")


def small(kind: type[Any]) -> dict[str, Any]:
    """The options of a configuration, and of those inside it, that make it small."""
    has = {*kind().to_dict(), *kind.attribute_map}
    found: dict[str, Any] = {n: size for size, names in _SMALL.items() for n in names if n in has}
    found |= {"attention_types": [[["global", "local"], 1]]} if "attention_types" in has else {}
    for other, name in kind.attribute_map.items():  # one option under two names
        if name in found:
            found.pop(other, None)
    for name, inner in getattr(kind, "sub_configs", {}).items():
        if name in has and hasattr(inner, "model_type") and inner.model_type:
            found[name] = small(inner)
    return found


def built(name: str) -> nn.Module:
    """A network of the type in its smallest form; the encoder of two."""
    kind = transformers.CONFIG_MAPPING[name]
    config = kind(**small(kind))
    config._experts_implementation = "eager"
    if hasattr(config, "mask_ratio"):
        config.mask_ratio = 0.0
    torch.manual_seed(0)
    with torch.device("meta"):
        sketch = transformers.AutoModel.from_config(config)
    if sum(p.numel() for p in sketch.parameters()) > _MOST:
        raise ValueError("its sizes have other names, and it stays large")
    model = transformers.AutoModel.from_config(
        config, attn_implementation="eager", dtype=torch.float64
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    if model.config.is_encoder_decoder and hasattr(model, "get_encoder"):
        model = model.get_encoder()
    return model


def compared(name: str, module: Any) -> Row:
    """One type against the library's own."""
    model = wp.wrap(module)
    more: dict[str, Any] = {}
    if model.anatomy.takes_ids(module):
        inputs = torch.randint(3, 60, (2, 9))
        more["use_cache"] = False  # a cache hands keys on in another layout: another last digit
    else:
        config = getattr(module.config, "vision_config", None) or module.config
        side = config.image_size
        side = side if isinstance(side, int) else side[0]
        inputs = torch.randn(2, config.num_channels, side, side, dtype=torch.float64)
    taps = [("context", n, model.layer(n).context) for n in range(1, model.layers + 1)]
    contexts: dict[int, torch.Tensor] = {}

    def keep(_: str, layer: int, tensor: torch.Tensor) -> None:
        contexts[layer] = tensor.clone()

    with torch.no_grad(), attach_taps(module, taps, keep), wp.record(model, model.sites) as rec:
        out = module(inputs, output_hidden_states=True, output_attentions=True, **more)
    states, last = out.hidden_states, model.layers
    if states is None or len(states) <= last:
        return Row(name, "refused: transformers gives no hidden_states to compare with")
    states = states[-last - 1 :]
    tokens = [apart(rec["z_in", n], states[n - 1]) for n in range(1, last + 1)]
    tokens += [apart(rec["z_out", n], states[n]) for n in range(1, last)]
    maps = []
    for n in range(1, last + 1):
        A, V = rec["attn_weights", n], rec["heads_v", n]
        V = V.repeat_interleave(A.shape[1] // V.shape[1], dim=1)
        maps.append(apart((A.to(V) @ V).transpose(1, 2).flatten(2), contexts[n]))
        if out.attentions is not None and out.attentions[n - 1] is not None:
            maps.append(apart(A, out.attentions[n - 1]))
    return Row(name, "loads", max(tokens), max(maps))
