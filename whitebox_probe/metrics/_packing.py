"""Sums as one row of bytes, which goes through files, processes and casts unchanged."""

import json
from math import prod

import torch
from torch import Tensor

from whitebox_probe.metrics.sums import Sums

_LENGTH = 8  # bytes that say how long the header is


def packed(sums: Sums, device: torch.device) -> Tensor:
    """The header's length, the header in JSON, and the values one after the other.

    Shapes: -> (N), uint8. A cast of floating tensors, as `half()` makes it, leaves it as it is.
    """
    about: list[list[object]] = []
    values: list[Tensor] = []
    for name, kind, value in sums.items():
        dtype = str(value.dtype).removeprefix("torch.")
        about.append([name, kind, dtype, list(value.shape), value.device.type == "cpu"])
        values.append(value.detach().reshape(-1).contiguous().view(torch.uint8).to(device))
    header = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
    length = torch.tensor([len(header)]).view(torch.uint8)
    return torch.cat([length.to(device), header.to(device), *values])


def unpacked(packet: Tensor, device: torch.device) -> Sums:
    """The sums again, in tensors of their own.

    Args: device: where values go that were not on the CPU when they were packed; those that a
        measure keeps there (a sample of points) stay there.
    """
    start = _LENGTH + int(packet[:_LENGTH].cpu().view(torch.int64))
    sums = Sums()
    header = json.loads(packet[_LENGTH:start].cpu().numpy().tobytes())
    for name, kind, dtype, shape, on_cpu in header:
        of = getattr(torch, dtype)
        stop = start + prod(shape) * of.itemsize
        value = packet[start:stop].clone().view(of).reshape(shape)
        sums.put(name, kind, value.to("cpu" if on_cpu else device))
        start = stop
    return sums
