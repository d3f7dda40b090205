"""A tensor of inputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _digest
from whitebox_probe.data._reading import expect_plain, knowing_white
from whitebox_probe.data.choices import Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader


class Tensors(Kind):
    """A tensor (N, ...), without classes: a model's inputs as they are, or pixels of images.

    Whole numbers of images are pixels; fractions and ids of tokens are inputs.
    """

    name = "tensor"
    words = "a tensor of inputs (N, ...)"

    def takes(self, data: Any) -> bool:
        """Whether it is a tensor."""
        return isinstance(data, Tensor)

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The tensor; its fingerprint hashes shape, type and values."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """The tensor; of fractions that are pixels one white for all."""
        if not data.is_nested:
            expect_plain(data, f"a tensor {tuple(data.shape)}")
        if data.is_nested:
            raise DataError(
                "a nested tensor cannot be opened",
                "its samples are of several shapes",
                "Pass a Dataset of them and batch_size=1, or pad them to one and pass "
                "{'inputs': ..., 'attention_mask': mask}",
            )
        if data.ndim == 0:
            raise DataError(
                "a tensor without axes cannot be opened",
                "its first axis counts the samples",
                "Pass inputs (N, ...), such as x[None] for one sample x",
            )
        name = f"tensor {tuple(data.shape)}"
        choices = knowing_white(choices, data)
        return Opened(data, name, _digest.of_tensor(data), choices=choices)

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six inputs of four numbers."""
        plain = torch.arange(24.0).view(6, 4)
        broken = plain.clone()
        broken[3, 1] = torch.nan
        return {
            "plain": plain,
            "other": plain + 1,
            "empty": plain[:0],
            "not finite": broken,
            "wrong type": torch.tensor(1.0),
        }
