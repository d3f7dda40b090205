"""Each reader of bytes from outside: the file it reads, sound ones, and how it is called.

A reader either takes a file or refuses it by one of this package's errors; whatever else it raises
is a fault. `guided` lets coverage lead through them, and keeps what reaches new code in `corpus/`.
"""

import io
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.kinds import ARCH

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Reader:
    """A reader: the name its file has, sound contents of it, and the call."""

    file: str
    sound: Callable[[], Iterator[bytes]]
    read: Callable[[Path], object]


def refusals() -> tuple[type[BaseException], ...]:
    """What a reader may raise."""
    from whitebox_probe._core.errors import ProbeError
    from whitebox_probe._core.gate import Unfit

    return ProbeError, Unfit


def accepts(name: str, content: bytes, place: Path) -> bool:
    """Whether a reader takes a content, put into a folder of its own; other errors are raised."""
    reader = READERS[name]
    path = place / reader.file
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read(path)
        except refusals():
            return False
    return True


def _state() -> dict[str, Any]:
    import torch

    from whitebox_probe.models.families.crate import CRATE

    torch.manual_seed(0)
    return dict(CRATE(**ARCH).state_dict())


def _torch_files() -> Iterator[bytes]:
    import torch

    few = {"a.weight": torch.ones(2, 3), "b": torch.zeros(2, dtype=torch.float16)}
    for whole in (few, {"state_dict": few, "epoch": 3}, _state()):
        for new in (True, False):
            held = io.BytesIO()
            torch.save(whole, held, _use_new_zipfile_serialization=new)
            yield held.getvalue()


def _safetensors() -> Iterator[bytes]:
    import torch
    from safetensors.torch import save

    yield save({"a": torch.ones(2, 3), "b": torch.zeros(2, dtype=torch.bfloat16)}, {"x": "y"})
    yield save(_state())


def _onnx() -> Iterator[bytes]:
    import numpy as np
    from onnx import helper, numpy_helper

    held = [numpy_helper.from_array(np.ones((2, 3), np.float32), "a")]
    yield helper.make_model(helper.make_graph([], "g", [], [], held)).SerializeToString()


def _archives() -> Iterator[bytes]:
    import numpy as np

    for save in (np.savez, np.savez_compressed):
        held = io.BytesIO()
        save(held, a=np.ones((2, 3)), b=np.arange(4), c=np.array(True))
        yield held.getvalue()


def _arrays() -> Iterator[bytes]:
    import numpy as np

    for array in (np.ones((2, 3), np.float32), np.arange(4, dtype=">i2"), np.array(1.5)):
        held = io.BytesIO()
        np.save(held, array)
        yield held.getvalue()


def _result(file: str) -> Callable[[], Iterator[bytes]]:
    def sound() -> Iterator[bytes]:
        yield (_saved() / file).read_bytes()

    return sound


def _saved() -> Path:
    """A result that this package wrote, made once a process; without seals, which only tell that
    bytes are others: what is behind them is looked for."""
    import tempfile

    import torch

    import whitebox_probe as wp
    from whitebox_probe.models.families.crate import CRATE

    global _SAVED
    if _SAVED is None:
        _SAVED = Path(tempfile.mkdtemp()) / "result"
        torch.manual_seed(0)
        model = wp.wrap(CRATE(**ARCH).eval(), name="fuzzed")
        wp.probe(model, torch.randn(3, 1, 8, 8), ["l0", "coherence"], progress=False).save(_SAVED)
        told = json.loads((_SAVED / "run.json").read_text())
        for seal in ("digest", "files", "execution"):
            told.pop(seal, None)
        (_SAVED / "run.json").write_text(json.dumps(told))
    return _SAVED


_SAVED: Path | None = None


def _load_result(path: Path) -> object:
    import shutil

    from whitebox_probe.results.result import Result

    for each in _saved().iterdir():
        if each.name != path.name:
            shutil.copy(each, path.parent / each.name)
    return Result.load(path.parent)


def _texts(*texts: str) -> Callable[[], Iterator[bytes]]:
    return lambda: (text.encode() for text in texts)


def _registries() -> Iterator[bytes]:
    arch = json.dumps(ARCH)
    yield (
        f"checkpoints:\n  one:\n    family: crate\n    arch: {arch}\n    source: {{kind: url, "
        f"url: 'https://example.org/x.pth', filename: x.pth}}\n    sha256: {'ab' * 32}\n"
    ).encode()
    yield (
        b"checkpoints:\n  a: &a {family: timm_vit, arch: {model_name: vit_tiny_patch16_224}, "
        b"source: {kind: path, path: x.pth}}\n  b: *a\n"
    )


def _sweeps() -> Iterator[bytes]:
    yield b"models: [crate-tiny-fmnist]\ndata: fashion-mnist-test\nsettings: {eps: [0.1, 0.5]}\n"
    yield b"models: &m [a, b]\ndata: [x, {data: y}]\nmetrics: [l0]\nlimit: 8\nworkers: 2\n"


def _configurations() -> Iterator[bytes]:
    import transformers

    for kind in ("gpt2", "bert", "llama", "vit"):
        yield transformers.AutoConfig.for_model(kind, num_hidden_layers=1).to_json_string().encode()


def _read_configuration(path: Path) -> object:
    from whitebox_probe.models.configuration import configuration

    return configuration({"model": str(path.parent)})


def _tokenizers() -> Iterator[bytes]:
    import tokenizers
    from tokenizers import models

    words = {"[UNK]": 0, "a": 1, "b": 2}
    yield tokenizers.Tokenizer(models.WordLevel(words, "[UNK]")).to_str().encode()
    yield (
        tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])).to_str().encode()
    )


def _pictures() -> Iterator[bytes]:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        for mode in ("RGB", "L"):
            held = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(held, kind)
            yield held.getvalue()


def _pixels(image: Any) -> Any:
    import torch

    return torch.tensor(image.size)[None, None].float()


def _read_picture(path: Path) -> object:
    import whitebox_probe as wp

    source = wp.data.open_data(path.parent, transform=_pixels)
    return [batch for batch in source.batches(1, 0)]


def _lazily(module: str, name: str, **options: Any) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from importlib import import_module

        return getattr(import_module(f"whitebox_probe.{module}"), name)(path, **options)

    return read


_YAML = ("a: [1, {b: c}]\n", "x: &y {z: 1}\nw: *y\n", "- 1e3\n- 'é'\n- ~\n")
_JSON = ('{"a": [1, 2.5, null, true], "b": {"c": "é"}}', '["\\ud800", 1e400, -0.0]')

READERS = {
    "json": Reader("x.json", _texts(*_JSON), _lazily("_core.gate", "read_json")),
    "yaml": Reader("x.yaml", _texts(*_YAML), _lazily("_core.gate", "read_yaml")),
    "registry": Reader("r.yaml", _registries, _lazily("checkpoints._registry", "registry")),
    "sweep": Reader("s.yaml", _sweeps, _lazily("sweeping.file", "read")),
    "npz": Reader("x.npz", _archives, _lazily("_core.arrays", "read_arrays")),
    "npy": Reader("x.npy", _arrays, _lazily("_core.arrays", "mapped_array")),
    "torch": Reader("x.pth", _torch_files, _lazily("checkpoints._weights", "read_state_dict")),
    "safetensors": Reader(
        "x.safetensors", _safetensors, _lazily("checkpoints._weights", "read_state_dict")
    ),
    "onnx": Reader("x.onnx", _onnx, _lazily("checkpoints._weights", "read_state_dict")),
    "run": Reader("run.json", _result("run.json"), _load_result),
    "table": Reader("table.parquet", _result("table.parquet"), _load_result),
    "csv": Reader("table.csv", _result("table.csv"), _lazily("results.table", "read_table")),
    "samples": Reader("samples.parquet", _result("samples.parquet"), _load_result),
    "matrices": Reader("matrices.npz", _result("matrices.npz"), _load_result),
    "config": Reader("config.json", _configurations, _read_configuration),
    "tokenizer": Reader("tokenizer.json", _tokenizers, _lazily("data._tokenizer_files", "sound")),
    "picture": Reader("x.png", _pictures, _read_picture),
    "text": Reader("x.txt", _texts("white box\n", "é\n\n漢"), _lazily("data.text", "read_text")),
}
