"""Attention maps that are made beside a module, of the queries and keys that it takes."""

from typing import Any

import torch
from torch import Tensor

from whitebox_probe._core.errors import SiteError

MASKS = ("attn_bias", "mask", "attn_mask", "key_padding_mask", "is_causal")
"""What an attention may be called with beside queries, keys and values, as keywords."""


def softmax(
    q: Tensor, k: Tensor, *, causal: bool, attn_bias: Tensor | None = None, **masks: Any
) -> Tensor:
    """Softmax of q k^T / sqrt(p) over the keys, with a bias if there is one.

    Shapes: q (B, K, n, p), k the same or with fewer heads -> (B, K, n, n)
    Raises: SiteError where the attention was called with a mask: it is not read.
    """
    if any(mask is not None and mask is not False for mask in masks.values()):
        raise SiteError(
            "masked attention is not recorded as 'attn_weights'",
            "the model was called with a mask",
            "Call it without one, or leave the site out",
        )
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = q @ k.mT * q.shape[-1] ** -0.5
    scores = scores if attn_bias is None else scores + attn_bias
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(dim=-1)
