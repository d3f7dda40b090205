"""The frame of nanoGPT's language models: embeddings, blocks and a tied head, by its names."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe.models.families._steps import expect_ids


class GPT(nn.Module):
    """Causal language model of any blocks, with the parameter names of nanoGPT.

    Shapes: ids (B, n) -> logits of the last token (B, 1, vocabulary), as the releases give them.
    Args:
        block: makes one block, a map of tokens (B, n, d) in which none depends on a later one.
        norm: the final normalisation, `ln_f`; None where there is none.
    Raises: DataError for ids outside the vocabulary, or more of them than `block_size`.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        block_size: int,
        dim: int,
        depth: int,
        block: Callable[[], nn.Module],
        norm: nn.Module | None,
    ) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {
            "wte": nn.Embedding(vocabulary, dim),
            "wpe": nn.Embedding(block_size, dim),
            "h": nn.ModuleList([block() for _ in range(depth)]),
        }
        if norm is not None:
            parts["ln_f"] = norm
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(dim, vocabulary, bias=False)
        self.lm_head.weight = parts["wte"].weight  # type: ignore[assignment]  # tied

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(self.tokens(ids)[:, -1:])

    def tokens(self, ids: Tensor) -> Tensor:
        """What the last layer leaves, (B, n, d)."""
        parts: Any = self.transformer
        expect_ids(ids, vocabulary=parts.wte.num_embeddings, length=parts.wpe.num_embeddings)
        x = parts.wte(ids) + parts.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in parts.h:
            x = block(x)
        return x

    def logits(self, tokens: Tensor) -> Tensor:
        """The next token's logits at each of the tokens (B, n, d) -> (B, n, vocabulary)."""
        parts: Any = self.transformer
        return self.lm_head(parts.ln_f(tokens) if "ln_f" in parts else tokens)
