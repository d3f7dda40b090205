"""Networks of transformers that are told to be not understood, rather than read wrongly."""

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import SiteError

transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURES = {**SMALL, "intermediate_size": 32, "image_size": 16, "patch_size": 4}


def vit(**changes):
    torch.manual_seed(0)
    return transformers.ViTModel(transformers.ViTConfig(**PICTURES | changes)).eval()


def gpt2():
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 16}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends)).eval()


def test_pictures_that_are_not_square_are_cut_as_the_configuration_says():
    model = wp.wrap(vit(image_size=[16, 24], patch_size=[4, 8]), name="wide")
    result = wp.probe(model, torch.randn(2, 3, 16, 24), ["l0"], progress=False)
    assert result.run.tokens == 1 + 4 * 3


def test_patches_that_are_left_out_at_random_are_told():
    sizes = {**PICTURES, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1}
    sizes |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}
    net = transformers.ViTMAEModel(transformers.ViTMAEConfig(**sizes, mask_ratio=0.75))
    with pytest.raises(SiteError, match="leaves 75% of the patches out.*mask_ratio=0.0"):
        wp.wrap(net)


def test_other_tokens_than_the_sizes_give_are_told():
    net = vit()
    net.embeddings.register_forward_hook(lambda _, args, out: out[:, :9])
    with pytest.raises(SiteError, match=r"gives \(9, 16\), where 1 tokens and 4 x 4 patches"):
        wp.wrap(net)


def test_what_takes_neither_ids_nor_pictures_is_told():
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_mel_bins": 8}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 60}
    sizes |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "pad_token_id": 0}
    net = transformers.WhisperModel(transformers.WhisperConfig(**sizes))
    with pytest.raises(SiteError, match="it takes input_features"):
        wp.wrap(net.encoder)


def test_a_part_that_lacks_or_is_called_otherwise_is_told():
    net = gpt2()
    block = net.transformer.h[0]
    block.mlp.c_projection = block.mlp.c_proj
    del block.mlp.c_proj
    with pytest.raises(SiteError, match="not understood.*c_projection"):
        wp.wrap(net)
