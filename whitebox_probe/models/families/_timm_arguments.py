"""The arguments that networks of timm are built with here: sizes, switches, and parts by name.

Everything else that timm takes is refused: what would have it read or fetch a file
(`checkpoint_path`, `pretrained`, `pretrained_cfg`), and parts given as classes.
"""

from collections.abc import Mapping
from typing import Any

from whitebox_probe.models.arguments import (
    NOTHING,
    NUMBER,
    TEXT,
    TRUTH,
    WHOLE,
    Kind,
    any_of,
    one_of,
    several,
)

ACTS = ("gelu", "gelu_tanh", "gelu_erf", "quick_gelu", "quickgelu", "relu", "silu", "swish", "tanh")
NORMS = ("layernorm", "layernorm2d", "layernormfp32", "rmsnorm", "rmsnormfp32", "simplenorm")
OVERLAY = "pretrained_cfg_overlay"
"""How a training file says that its images were prepared."""
_SIDES = any_of(WHOLE, several(WHOLE, 2))
_MAYBE = {
    "truth": any_of(TRUTH, NOTHING),
    "number": any_of(NUMBER, NOTHING),
    "whole": any_of(WHOLE, NOTHING),
}
_WHOLE = """
    in_chans num_classes embed_dim depth num_heads reg_tokens num_reg_tokens swiglu_align_to
    depth_token_only merge_size out_features downsample_ratio
"""
_NUMBERS = """
    mlp_ratio drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate drop_path_rate
    rope_grid_offset rope_temperature head_init_scale norm_eps mlp_ratio_token_only
"""
_SWITCHES = """
    qkv_bias qk_norm scale_attn_norm scale_mlp_norm proj_bias class_token no_embed_class pre_norm
    final_norm pool_include_prefix dynamic_img_size dynamic_img_pad fix_init qkv_fused swiglu_mlp
    scale_mlp scale_attn_inner scale_attn_inner_norm attn_only_layer_scale use_abs_pos_emb
    use_rot_pos_emb rope_rotate_half use_post_norm use_pre_transformer_norm use_rel_pos_bias
    use_shared_rel_pos_bias shared_rel_pos use_key_only_attn_mask pos_embed_ar_preserving
    pos_embed_antialias pos_embed_align_corners pos_embed_use_grid_sample patchify_channels_last
    attn_gated enable_patch_interpolator
"""
_WORDS = """
    global_pool pos_embed weight_init attn_type rope_type rope_grid_indexing rel_pos_type
    pos_embed_interp_mode embed_proj_type encoder_pool
"""
_IMAGES = {
    "mean": several(NUMBER, 1, 3),
    "std": several(NUMBER, 1, 3),
    "crop_pct": NUMBER,
    "crop_mode": TEXT,
    "interpolation": TEXT,
    "input_size": several(WHOLE, 3),
}


def _of_images(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        name in _IMAGES and _IMAGES[name].fits(each) for name, each in value.items()
    )


ARGUMENTS: Mapping[str, Kind] = {
    "model": TEXT,
    OVERLAY: Kind(_of_images, "how images are prepared"),
    "interpolate_positions": any_of(TRUTH, TEXT, NOTHING),
    "img_size": any_of(_SIDES, NOTHING),
    "patch_size": _SIDES,
    "pos_embed_grid_size": any_of(_SIDES, NOTHING),
    "ref_feat_shape": any_of(_SIDES, NOTHING),
    "rope_ref_feat_shape": any_of(_SIDES, NOTHING),
    "rope_mrope_section": any_of(several(WHOLE, 3), NOTHING),
    "init_values": _MAYBE["number"],
    "fc_norm": _MAYBE["truth"],
    "use_fc_norm": _MAYBE["truth"],
    "use_post_transformer_norm": _MAYBE["truth"],
    "num_kv_heads": any_of(WHOLE, several(WHOLE), NOTHING),
    "attn_pool_num_heads": _MAYBE["whole"],
    "attn_pool_mlp_ratio": _MAYBE["number"],
    "rel_pos_dim": _MAYBE["whole"],
    **dict.fromkeys(
        ("rope_shift_coords", "rope_jitter_coords", "rope_rescale_coords"), _MAYBE["number"]
    ),
    "act_layer": any_of(one_of(*ACTS), NOTHING),
    **dict.fromkeys(
        ("norm_layer", "embed_norm_layer", "input_norm_layer"), any_of(one_of(*NORMS), NOTHING)
    ),
    **dict.fromkeys(_WHOLE.split(), WHOLE),
    **dict.fromkeys(_NUMBERS.split(), NUMBER),
    **dict.fromkeys(_SWITCHES.split(), TRUTH),
    **dict.fromkeys(_WORDS.split(), TEXT),
}
LEFT_OUT = frozenset(
    {
        *("embed_layer", "block_fn", "mlp_layer", "attn_layer", "block_layers"),
        *("block_layers_token", "patch_layer", "attn_block", "mlp_block"),
        *("attn_block_token_only", "mlp_block_token_only", "device", "dtype", "cfg", "kwargs"),
    }
)
"""What the constructors take beside that: parts as classes, and where tensors lie."""
