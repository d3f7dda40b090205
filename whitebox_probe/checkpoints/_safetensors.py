"""Read a safetensors file: its header is checked against the file before a number is touched."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.gate import Unfit, expect, gate, parse_json, size_of
from whitebox_probe._core.io import utf8_name
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints._formats import damaged

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH = 8
_MOST = 100_000_000  # bytes of a header, as the format itself has it
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
_WHOLE = {"type": "integer", "minimum": 0, "maximum": 2**62}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"__metadata__": {"type": "object"}},
    "additionalProperties": {
        "type": "object",
        "properties": {
            "dtype": {"type": "string"},
            "shape": {"type": "array", "items": _WHOLE, "maxItems": 64},
            "data_offsets": {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2},
        },
        "required": ["dtype", "shape", "data_offsets"],
    },
}


def read_safetensors(path: Path) -> "dict[str, Tensor]":
    """The tensors of a file by name, mapped from the disk.

    Raises: CheckpointError for a file that is cut short or whose header contradicts itself.
    """
    try:
        _expect_whole(path)
        with gate(), utf8_name(path) as name:
            import safetensors.torch

            found: dict[str, Tensor] = safetensors.torch.load_file(name)
    except Unfit as why:
        raise damaged(path, why) from why
    return found


def _expect_whole(path: Path) -> None:
    size = size_of(path)
    with gate(), path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > min(_MOST, size - _LENGTH):
            raise Unfit(f"its header should have {length:,} bytes, and the file has {size:,}")
        header = parse_json(file.read(length).decode("utf-8"))
    expect(_SCHEMA, header, name="its header")
    header.pop("__metadata__", None)
    spans = sorted(_span(name, told) for name, told in header.items())
    at = 0
    for begin, end, name in spans:
        if begin != at:
            raise Unfit(f"the numbers of '{shown(name)}' do not follow those before them")
        at = end
    if at != size - _LENGTH - length:
        raise Unfit(f"its tensors have {at:,} bytes, and {size - _LENGTH - length:,} are there")


def _span(name: str, told: dict[str, Any]) -> tuple[int, int, str]:
    """Where a tensor's numbers begin and end, which its shape has to agree with."""
    begin, end = map(int, told["data_offsets"])
    if told["dtype"] not in _BITS:
        raise Unfit(f"'{shown(name)}' is of the type {shown(told['dtype'])}, which is not read")
    if math.prod(map(int, told["shape"])) * _BITS[told["dtype"]] != 8 * (end - begin):
        raise Unfit(f"the numbers of '{shown(name)}' are not as many as its shape says")
    return begin, end, name
