"""Small networks of transformers, one of each kind of block: for tables and tests."""

from typing import Any

_SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_TEXT = _SIZES | {
    "vocab_size": 23,
    "max_position_embeddings": 20,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_NARROW = {"intermediate_size": 24}
_PICTURES = _SIZES | {"image_size": 12, "patch_size": 4}
_ONE_GROUP = {"num_key_value_heads": 1}
_WORDS: tuple[dict[str, Any], ...] = (
    {"model_type": "gpt2"},
    {"model_type": "bert"},
    {"model_type": "llama", **_ONE_GROUP},
    {"model_type": "gpt_neox", **_NARROW},
    {"model_type": "opt", "ffn_dim": 24, "word_embed_proj_dim": 16, "pad_token_id": 0},
    {"model_type": "gemma2", **_NARROW, **_ONE_GROUP, "head_dim": 8, "sliding_window": 3},
    {"model_type": "modernbert", **_NARROW, "pad_token_id": 0, "cls_token_id": 0}
    | {"sep_token_id": 0},
    {"model_type": "mixtral", **_NARROW, **_ONE_GROUP, "num_local_experts": 3},
    {"model_type": "albert", **_NARROW, "embedding_size": 8, "num_hidden_layers": 3},
)
_IMAGES: tuple[dict[str, Any], ...] = (
    {"model_type": "vit", **_NARROW},
    {"model_type": "dinov2_with_registers", "num_register_tokens": 2, "mlp_ratio": 2},
    {"model_type": "dinov3_vit", **_NARROW, "num_register_tokens": 2},
    {"model_type": "siglip_vision_model", **_NARROW},
    {"model_type": "beit", **_NARROW, "use_relative_position_bias": True},
)

EXAMPLES = (*(_TEXT | kind for kind in _WORDS), *(_PICTURES | kind for kind in _IMAGES))
"""Arguments of `HfFamily.build`."""
