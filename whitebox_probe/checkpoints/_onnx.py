"""Read the tensors of an ONNX file: its graph is looked at, and never run.

An exporter keeps the names of biases and norms, but folds a linear layer's weight into an anonymous
tensor. Such a tensor is named after the one operation that reads it.
"""

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import CheckpointError, MissingDependency
from whitebox_probe._core.gate import Unfit, gate, reason
from whitebox_probe._core.lines import shown

if TYPE_CHECKING:
    from torch import Tensor


def read_onnx(path: Path) -> "dict[str, Tensor]":
    """The tensors of an ONNX file by name, on the CPU.

    The second factor of the operation `/a/b/MatMul` becomes `a.b.weight`, transposed to torch's
    (out, in); any other anonymous tensor takes the operation's own path, `a.b.Concat_2`. Tensors
    that several operations share, and constants inside the graph, are left out.

    Raises: CheckpointError for a damaged file, or one whose tensors lie in other files;
        MissingDependency.
    """
    if find_spec("onnx") is None:
        raise MissingDependency(
            f"{path} is an ONNX file",
            "the package onnx, which reads it, is not installed",
            "Run: python -m pip install onnx",
        )
    try:
        with gate():
            return _tensors(path)
    except Unfit as why:
        raise _damaged(path, str(why)) from why


def _tensors(path: Path) -> "dict[str, Tensor]":
    import onnx
    import torch
    from google.protobuf.message import DecodeError

    try:
        # Other files that this one names are not opened: their paths are the file's own word.
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise Unfit(shown(error, 120)) from error
    if not graph.initializer:
        raise Unfit("it holds no tensor")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise CheckpointError(
            f"the tensors of {path} are not in it",
            "it refers to other files",
            "Save the model as one ONNX file",
        )
    stored = {tensor.name: tensor for tensor in graph.initializer}
    if len(stored) < len(graph.initializer):
        raise Unfit("two of its tensors have one name")
    size = path.stat().st_size
    found: dict[str, Tensor] = {}
    for name, key, turned in _named(graph, stored):
        # At least four bits of each number are in the file.
        if math.prod(max(0, n) for n in stored[name].dims) > 2 * size:
            raise Unfit(f"tensor '{shown(name)}' is larger than the file")
        try:
            values = torch.from_numpy(onnx.numpy_helper.to_array(stored[name]).copy())
        except Exception as error:
            raise Unfit(f"tensor '{shown(name)}': {reason(error)}") from error
        if key in found:
            raise Unfit(f"two of its tensors are '{shown(key)}'")
        found[key] = values.T.contiguous() if turned else values
    return found


def _named(graph: Any, stored: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """(name in the file, name given, whether it is to be transposed) of each tensor."""
    anonymous = {name for name in stored if "::" in name}
    yield from ((name, name, False) for name in stored if name not in anonymous)
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in anonymous:
                readers.setdefault(name, []).append((node, place))
    for name, reading in readers.items():
        if len(reading) > 1:
            continue
        node, place = reading[0]
        path = node.name.strip("/").replace("/", ".")
        if node.op_type == "MatMul" and place == 1 and path.endswith(".MatMul"):
            yield name, path.removesuffix("MatMul") + "weight", len(stored[name].dims) == 2
        elif path:
            yield name, path, False


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is not a whole ONNX file", why, "Get the file again")
