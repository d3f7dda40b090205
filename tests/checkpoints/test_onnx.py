"""ONNX files: names restored, nothing run, and what is said of a file that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
import torch

from whitebox_probe._core.errors import CheckpointError, MissingDependency
from whitebox_probe.checkpoints import _onnx, read_state_dict

onnx = pytest.importorskip("onnx")
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)  # (in, out), as MatMul wants it


def written(folder: Path, *, shared: bool = False) -> Path:
    """y = relu(x W + b) + c, with W and c anonymous and the bias named."""
    made = onnx.helper
    tensors = {
        "onnx::MatMul_7": WEIGHT,
        "head.fc.bias": np.ones(3, np.float32),
        "onnx::Add_9": np.full(3, 2, np.float32),
    }
    nodes = [
        made.make_node("MatMul", ["x", "onnx::MatMul_7"], ["a"], name="/head/fc/MatMul"),
        made.make_node("Add", ["head.fc.bias", "a"], ["b"], name="/head/fc/Add"),
        made.make_node("Relu", ["b"], ["c"], name="/act/Relu"),
        made.make_node("Add", ["c", "onnx::Add_9"], ["y"], name="/Add_1"),
    ]
    if shared:
        nodes.append(made.make_node("Add", ["c", "onnx::Add_9"], ["z"], name="/Add_2"))
    of = onnx.TensorProto.FLOAT
    graph = made.make_graph(
        nodes,
        "g",
        [made.make_tensor_value_info("x", of, [1, 2])],
        [made.make_tensor_value_info("y", of, [1, 3])],
        [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    path = folder / "model.onnx"
    onnx.save(made.make_model(graph), str(path))
    return path


def test_anonymous_tensors_are_named_after_what_reads_them(tmp_path: Path) -> None:
    found = read_state_dict(written(tmp_path))
    assert set(found) == {"head.fc.weight", "head.fc.bias", "Add_1"}
    assert torch.equal(found["head.fc.weight"], torch.from_numpy(WEIGHT.T.copy()))
    assert found["head.fc.weight"].is_contiguous()
    x = torch.randn(1, 2)
    ours = torch.nn.functional.linear(x, found["head.fc.weight"], found["head.fc.bias"]).relu()
    session = pytest.importorskip("onnxruntime").InferenceSession(
        str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    want = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
    torch.testing.assert_close(ours + found["Add_1"], want)


def test_a_tensor_that_two_operations_share_has_no_name(tmp_path: Path) -> None:
    assert set(read_state_dict(written(tmp_path, shared=True))) == {
        "head.fc.weight",
        "head.fc.bias",
    }


@pytest.mark.parametrize("cut", [b"<html>", None])
def test_a_damaged_file_is_named(tmp_path: Path, cut: bytes | None) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-40] if cut is None else cut)
    with pytest.raises(CheckpointError, match=r"model\.onnx is not a whole ONNX file"):
        read_state_dict(path)


def test_tensors_in_other_files_are_not_followed(tmp_path: Path) -> None:
    path = written(tmp_path)
    model = onnx.load(str(path))
    onnx.external_data_helper.convert_model_to_external_data(model, location="w", size_threshold=0)
    onnx.save(model, str(path))
    with pytest.raises(CheckpointError, match="it refers to other files"):
        read_state_dict(path)


def test_a_wrapper_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a file of its kind holds one state dict"):
        read_state_dict(written(tmp_path), wrapper="model")


def test_without_onnx_the_command_that_installs_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_onnx, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match="pip install onnx"):
        read_state_dict(written(tmp_path))
