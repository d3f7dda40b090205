"""What a tensor of a file is, and whether two hold the same numbers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_EXPANDED = 1 << 24


def oddity(tensor: "Tensor") -> str | None:
    """What a tensor is, if it is no plain array of numbers that are in the file."""
    import torch

    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return str(tensor.layout).removeprefix("torch.")
    if tensor.is_meta:
        return "without numbers"
    if tensor.is_quantized:
        return "quantised"
    # An expanded tensor is one number many times: small ones are common, and harmless.
    if tensor.numel() > _EXPANDED and tensor.numel() > tensor.untyped_storage().nbytes():
        return f"{tensor.numel()} numbers, of which few are in the file"
    return None


def same(one: Any, other: Any) -> bool:
    """Whether two tensors are of one type and shape, and hold the same numbers.

    Two that are no plain arrays, or that torch cannot compare, are not: that may take for ever.
    """
    import torch

    if one is other or not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return one is other
    if one.dtype != other.dtype or one.shape != other.shape or oddity(one) or oddity(other):
        return False
    try:
        return torch.equal(one, other)
    except NotImplementedError:  # of bits
        return False
