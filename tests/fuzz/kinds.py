# ruff: noqa: E501, B023 - hostile values stand in long lists, and are used at once
"""The kinds of input: how a sound one is made, and how it is damaged by seed."""

import collections
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.fuzz.harness import Case
from tests.fuzz.mutate import damaged, pool, tree

ARCH = {"image_size": 8, "patch_size": 4, "channels": 1, "classes": 2, "dim": 8, "depth": 2}
ARCH |= {"heads": 2, "dim_head": 4, "eta": 0.1, "lam": 0.1}
QUICK = ["--metrics", "l0", "--limit", "2", "--quiet"]


class Folder:
    """Where the inputs of a kind lie, with sound data, weights and a registry."""

    def __init__(self, path: Path) -> None:
        from whitebox_probe.models.families.crate import CRATE

        self.path = path
        self.canary = path / "canary"
        torch.manual_seed(0)
        self.module = CRATE(**ARCH).eval()
        self.state = dict(self.module.state_dict())
        images = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
        np.save(path / "data.npy", images)
        (path / "registry.yaml").write_text(
            "checkpoints:\n  fuzz-tiny:\n    family: crate\n    arch: "
            f"{json.dumps(ARCH)}\n    source: {{kind: path, path: sound.pth}}\n"
        )
        torch.save(self.state, path / "sound.pth")
        os.environ["WHITEBOX_PROBE_REGISTRY"] = str(path / "registry.yaml")
        self.out = path / "out"
        self.right: Any = None

    def run(self, model: str, *more: str) -> list[str]:
        """A run of a model on the sound data."""
        shutil.rmtree(self.out, ignore_errors=True)
        return [
            "run",
            model,
            "--data",
            f"{self.path / 'data.npy'}",
            *QUICK,
            *more,
            "--out",
            f"{self.out}",
        ]

    def same(self) -> str:
        """What is wrong about the result of a run of the sound weights."""
        from whitebox_probe.results.result import Result

        found = Result.load(self.out).samples
        if self.right is None:
            self.right = found
        return "" if found.equals(self.right) else "the numbers are others"


class Payload:
    """What would make a folder, if it were unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.target,)


def _odd(random: Random, at: Folder) -> Any:
    """A thing that a hostile file may hold where a tensor is expected."""
    one = torch.zeros(1)
    make: list[Callable[[], Any]] = [
        lambda: one.expand(10**12),
        lambda: torch.empty(4, 4, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.full((8,), float("nan")),
        lambda: torch.ones(8, dtype=torch.complex64),
        lambda: torch.ones(8).to(torch.float8_e4m3fn),
        lambda: torch.ones(0),
        lambda: np.ones(3),
        lambda: Payload(at.canary),
        lambda: torch.nn.Linear(2, 2),
        lambda: collections.OrderedDict(a=one),
        lambda: pool(random),
    ]
    return random.choice(make)()


def _hostile_state(random: Random, at: Folder) -> Any:
    state: dict[Any, Any] = dict(at.state)
    for _ in range(random.choice((1, 1, 2))):
        key = random.choice(list(state))
        way = random.choice(("other", "rename", "remove", "add"))
        if way == "other":
            state[key] = _odd(random, at)
        elif way == "rename":
            state[
                random.choice((1, 2.5, "\x1b[2Ja", "x" * 10**5, ("a", 1), f"module.{key}", b"a"))
            ] = state.pop(key)
        elif way == "remove":
            del state[key]
        else:
            state[f"more.{random.random()}"] = _odd(random, at)
    wraps: list[Callable[[], Any]] = [
        lambda: state,
        lambda: {"state_dict": state, "args": pool(random), "config": {"heads": pool(random)}},
        lambda: {"model": state, "model_ema": dict(at.state)},
        lambda: {"state_dict": at.state, "x": _odd(random, at), "arch": pool(random)},
        lambda: [state],
    ]
    return random.choice(wraps)()


def checkpoints(random: Random, at: Folder) -> Iterator[Case]:
    """Files of torch.save, in the zip's form."""
    sound = (at.path / "sound.pth").read_bytes()
    path = at.path / "x.pth"
    named = ["--arch", "fuzz-tiny"]
    for how in ("stored", "deflated"):
        path.write_bytes(sound if how == "stored" else _packed(sound))
        yield Case(f"sound, {how}", at.run(str(path), *named), at.same)
    while True:
        way = random.choice(("bytes", "bytes", "bytes of packed", "things", "things"))
        if way == "things":
            try:
                torch.save(_hostile_state(random, at), path, _use_new_zipfile_serialization=True)
            except (RuntimeError, TypeError, ValueError, pickle.PicklingError, RecursionError):
                continue
            told: Any = None
        else:
            what, held = damaged(random, sound if way == "bytes" else _packed(sound))
            path.write_bytes(held)
            way, told = f"{way}, {what}", at.same
        some = random.choice((named, named, ["--set", "heads=2", "--preprocess", "imagenet"]))
        yield Case(way, at.run(str(path), *some), told)


def _packed(whole: bytes) -> bytes:
    import io

    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(whole)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return out.getvalue()


def pickles(random: Random, at: Folder) -> Iterator[Case]:
    """The older files of torch.save, and bare pickles: programs of operations drawn at random."""
    path = at.path / "x.pth"
    torch.save(at.state, path, _use_new_zipfile_serialization=False)
    sound = path.read_bytes()
    yield Case("sound", at.run(str(path), "--arch", "fuzz-tiny"), at.same)
    while True:
        way = random.choice(("bytes", "things", "program", "program in a zip"))
        if way == "things":
            try:
                torch.save(_hostile_state(random, at), path, _use_new_zipfile_serialization=False)
            except (RuntimeError, TypeError, ValueError, pickle.PicklingError, RecursionError):
                continue
        elif way == "bytes":
            what, held = damaged(random, sound[: 1 << 13] if random.random() < 0.5 else sound)
            path.write_bytes(held)
            way = f"{way}, {what}"
        elif way == "program":
            path.write_bytes(_program(random, at))
        else:
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("a/data.pkl", _program(random, at))
                file.writestr("a/data/0", bytes(64))
        yield Case(way, at.run(str(path), "--arch", "fuzz-tiny"))


_NAMES = (
    *("os\nsystem\n", "posix\nmkdir\n", "builtins\neval\n", "builtins\nlist\n", "builtins\ndict\n"),
    *("collections\nOrderedDict\n", "torch._utils\n_rebuild_tensor_v2\n", "torch\nFloatStorage\n"),
    *("builtins\nbytearray\n", "torch\nSize\n", "builtins\ngetattr\n", "torch.nn\nLinear\n"),
)


def _program(random: Random, at: Folder) -> bytes:
    mkdir = b"cposix\nmkdir\n(S'" + str(at.canary).encode() + b"'\ntR"
    pieces: list[Callable[[], bytes]] = [
        lambda: b"(",
        lambda: b"c" + random.choice(_NAMES).encode(),
        lambda: mkdir,
        lambda: random.choice(
            (
                b"R",
                b"t",
                b"l",
                b"d",
                b"}",
                b"]",
                b")",
                b"N",
                b"b",
                b"0",
                b"2",
                b"s",
                b"u",
                b"a",
                b"e",
                b"Q",
                b"\x81",
                b"\x85",
                b"\x86",
                b"\x87",
                b"1",
                b"o",
            )
        ),
        lambda: b"K" + random.randbytes(1),
        lambda: b"I" + str(random.choice((0, 1, -1, 10**9, 10**18))).encode() + b"\n",
        lambda: b"X" + struct.pack("<I", 3) + b"abc",
        lambda: b"X" + struct.pack("<I", 7) + b"storage",
        lambda: random.choice((b"q", b"h")) + random.randbytes(1),
        lambda: b"\x8e" + struct.pack("<Q", random.choice((1, 2**40, 2**62))),
        lambda: b"\x8a" + random.randbytes(3),
    ]
    body = b"".join(random.choice(pieces)() for _ in range(random.randrange(1, 60)))
    return b"\x80\x02" + body + b"."


def safetensors(random: Random, at: Folder) -> Iterator[Case]:
    """safetensors: a header of JSON and numbers without checksums; the header is what is damaged."""
    path = at.path / "x.safetensors"
    save_file(at.state, path)
    sound = path.read_bytes()
    length = struct.unpack("<Q", sound[:8])[0]
    header, rest = json.loads(sound[8 : 8 + length]), sound[8 + length :]
    named = ["--arch", "fuzz-tiny"]
    yield Case("sound", at.run(str(path), *named), at.same)
    while True:
        if random.random() < 0.5:
            what, changed = tree(random, header)
            try:
                told = json.dumps(changed).encode("utf-8", "surrogatepass")
            except ValueError:
                continue
            length = random.choice((len(told), len(told), len(told), 0, 2**40, len(told) - 1))
            path.write_bytes(struct.pack("<Q", length % 2**64) + told + rest)
        else:
            what, held = damaged(random, sound[: 8 + len(json.dumps(header))])
            path.write_bytes(held + random.choice((rest, rest, b"", rest[:-3])))
        yield Case(what, at.run(str(path), *named))


def arrays(random: Random, at: Folder) -> Iterator[Case]:
    """NumPy's archives and arrays, as weights and as data."""
    path, data = at.path / "x.npz", at.path / "x.npy"
    plain = {k: v.numpy() for k, v in at.state.items()}
    np.savez(path, **plain)
    stored = path.read_bytes()
    np.savez_compressed(path, **plain)
    packed = path.read_bytes()
    array = (at.path / "data.npy").read_bytes()
    named = ["--arch", "fuzz-tiny"]
    for held in (stored, packed):
        path.write_bytes(held)
        yield Case("sound", at.run(str(path), *named), at.same)
    while True:
        way = random.choice(("stored", "packed", "header", "objects", "data"))
        if way == "data":
            what, held = damaged(random, array[:140])
            data.write_bytes(held + array[140:])
            words = at.run("fuzz-tiny")
            words[words.index("--data") + 1] = str(data)
            yield Case(f"{way}, {what}", words)
            continue
        if way in ("stored", "packed"):
            what, held = damaged(random, stored if way == "stored" else packed)
            path.write_bytes(held)
            yield Case(f"{way}, {what}", at.run(str(path), *named), at.same)
            continue
        if way == "objects":
            other = {**plain, random.choice(list(plain)): np.array([pool(random)], dtype=object)}
            np.savez(path, **other)
        else:
            head = f"{{'descr': {random.choice(_DESCRS)!r}, 'fortran_order': {random.choice((True, False, 3))}, "
            head += f"'shape': {random.choice(_SHAPES)}, }}"
            told = (
                b"\x93NUMPY"
                + bytes((random.choice((1, 2, 3, 9)), 0))
                + struct.pack("<H", len(head))
                + head.encode()
            )
            with zipfile.ZipFile(path, "w") as file:
                file.writestr(
                    random.choice(("a.npy", "pos_embedding.npy", "../x.npy")), told + bytes(64)
                )
        yield Case(way, at.run(str(path), *named))


_DESCRS = (
    "<f4",
    ">f4",
    "|O",
    "<U9",
    "|V4",
    "|b1",
    "<M8[s]",
    "<c8",
    "<f2",
    "<f16",
    [("a", "<f4")],
    "x" * 99,
    "|V2",
)
_SHAPES = (
    "(10**12,)",
    "(1000000000000,)",
    "(4, 4)",
    "(-1,)",
    "()",
    "(0,)",
    "(16,)",
    "4",
    "('a',)",
    "(2,)*40",
)


def onnx(random: Random, at: Folder) -> Iterator[Case]:
    """ONNX graphs."""
    from onnx import TensorProto, helper, numpy_helper

    path = at.path / "x.onnx"

    def graph(tensors: list[Any]) -> bytes:
        made = helper.make_graph([], "g", [], [], initializer=tensors)
        return helper.make_model(made).SerializeToString()

    plain = [numpy_helper.from_array(v.numpy(), k) for k, v in at.state.items()]
    sound = graph(plain)
    path.write_bytes(sound)
    named = ["--arch", "fuzz-tiny"]
    yield Case("sound", at.run(str(path), *named), at.same)
    while True:
        if random.random() < 0.5:
            what, held = damaged(random, sound)
        else:
            what = "fields"
            one = TensorProto()
            one.CopyFrom(random.choice(plain))
            one.data_type = random.choice(range(30))
            if random.random() < 0.5:
                one.dims[:] = [random.choice((0, 1, -1, 10**9, 2**62))] * random.choice((1, 2, 30))
            if random.random() < 0.3:
                one.raw_data = b""
            if random.random() < 0.2:
                one.data_location = TensorProto.EXTERNAL
            held = graph([*plain[:-1], one] if random.random() < 0.7 else [one, one])
        path.write_bytes(held)
        yield Case(what, at.run(str(path), *named))


def registries(random: Random, at: Folder) -> Iterator[Case]:
    """Registries of a user's own, and architectures in them."""
    import yaml

    path = at.path / "own.yaml"
    sound = yaml.safe_load((at.path / "registry.yaml").read_text())
    sound["checkpoints"]["fuzz-tiny"] |= {
        "preprocess": {"size": 8, "mean": [0.5], "std": [0.5], "mode": "L"},
        "note": "n", "size": 1, "accuracy": [{"dataset": "a", "split": "b", "top1": 1.0, "source": "c"}],
    }  # fmt: skip
    del sound["checkpoints"]["fuzz-tiny"]["size"]
    sound["architectures"] = {"own": {"family": "crate", "arch": dict(ARCH)}}
    text = yaml.safe_dump(sound)
    usual = os.environ["WHITEBOX_PROBE_REGISTRY"]
    try:
        while True:
            way = random.choice(("tree", "tree", "bytes", "text"))
            if way == "tree":
                what, changed = tree(random, sound)
                try:
                    path.write_text(yaml.safe_dump(changed, allow_unicode=True), encoding="utf-8")
                except (yaml.YAMLError, UnicodeEncodeError, RecursionError):
                    continue
            elif way == "bytes":
                what, held = damaged(random, text.encode())
                path.write_bytes(held)
            else:
                what = random.choice(_YAML)
                path.write_text(
                    text.replace("family: crate", random.choice(("family: crate", what)), 1) + what
                )
            os.environ["WHITEBOX_PROBE_REGISTRY"] = random.choice(
                (*[str(path)] * 20, "~nobody/x", "/dev/null", str(at.path))
            )
            words = random.choice(
                (
                    at.run("fuzz-tiny"),
                    ["list"],
                    ["list", "--architectures"],
                    ["info", "fuzz-tiny"],
                    ["info", "own"],
                    ["fetch", "fuzz-tiny", "--quiet"],
                    at.run("sound.pth", "--arch", "own"),
                )
            )
            yield Case(f"{way}, {what[:60]}", words)
            os.environ["WHITEBOX_PROBE_REGISTRY"] = usual
    finally:
        os.environ["WHITEBOX_PROBE_REGISTRY"] = usual


_YAML = (
    "\nx: !!python/object/apply:os.system ['true']\n", "\nx: !!binary '!!'\n", "\nx: 2001-99-99\n",
    "\na: &a [1]\nb: *a\n", "\na: &a [*a]\n", "\n? [a]\n: b\n", "\n<<: {a: 1}\n", "\nx: .nan\n",
    "\n" + "[" * 3000 + "\n", "\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
    ), "\n%TAG ! x\n", "\n---\na: 1\n", "\nx: !<tag> 1\n", "\x00", "\nx: 0b\n", "\nx: 1:99:99\n",
)  # fmt: skip


def configs(random: Random, at: Folder) -> Iterator[Case]:
    """Folders of transformers: config.json and its neighbours."""
    import transformers

    folders = []
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 260, "max_position_embeddings": 64, "hidden_size": 16}
    plain: list[tuple[str, dict[str, Any]]] = [
        ("gpt2", text | {"bos_token_id": 0, "eos_token_id": 0}),
        ("bert", text | {"intermediate_size": 24}),
        ("llama", text | {"intermediate_size": 24, "num_key_value_heads": 1}),
        (
            "vit",
            sizes
            | {
                "hidden_size": 16,
                "intermediate_size": 24,
                "image_size": 8,
                "patch_size": 4,
                "num_channels": 1,
            },
        ),
    ]
    for kind, options in plain:
        config = transformers.AutoConfig.for_model(kind, **options)
        folder = at.path / f"sound-{kind}"
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        folders.append((kind, folder))
    place = at.path / "hf"
    while True:
        kind, folder = random.choice(folders)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        sound = json.loads((folder / "config.json").read_text())
        if random.random() < 0.85:
            what, changed = tree(random, sound)
            if isinstance(changed, dict) and random.random() < 0.3:
                name, value = random.choice(_STEERING)
                changed[name], what = value, f"{what}; {name}"
            try:
                held = json.dumps(changed).encode("utf-8", "surrogatepass")
            except ValueError:
                continue
        else:
            what, held = damaged(random, json.dumps(sound).encode())
        (place / "config.json").write_bytes(held)
        (place / "modeling_evil.py").write_text(
            f"import os\nos.mkdir({str(at.canary)!r})\nclass Evil: pass\n"
        )
        words = ["run", f"hf:{place}", *QUICK, "--preprocess", "text:bytes@8", "--data", "text.txt"]
        if kind == "vit":
            words = at.run(f"hf:{place}")
        else:
            shutil.rmtree(at.out, ignore_errors=True)
            (at.path / "text.txt").write_text("white box " * 20)
            words[words.index("text.txt")] = str(at.path / "text.txt")
            words += ["--out", str(at.out)]
        if random.random() < 0.3:
            words += ["--weights", "random"]
        yield Case(f"{kind}, {what}", words)


_STEERING = (
    ("auto_map", {"AutoConfig": "modeling_evil.Evil", "AutoModel": "modeling_evil.Evil"}),
    ("auto_map", {"AutoModel": "evil/evil--modeling_evil.Evil"}),
    ("_attn_implementation", "kernels-community/flash-attn"),
    ("attn_implementation", "evil/kernel:f"),
    ("backbone", "resnet18"),
    ("use_pretrained_backbone", True),
    ("quantization_config", {"quant_method": "bitsandbytes"}),
    ("n_layer", 10**7),
    ("num_hidden_layers", 10**7),
    ("kernel_config", {"x": "evil/kernel"}),
    ("dtype", "evil"),
    ("torch_dtype", 3),
)


def tokenizers(random: Random, at: Folder) -> Iterator[Case]:
    """Files of the tokenizers library."""
    import tokenizers as library
    from tokenizers import models, normalizers, pre_tokenizers, processors

    words = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "white": 3, "box": 4, "a": 5, "b": 6, "w": 7}
    sounds = []
    made = library.Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.add_special_tokens(["[CLS]", "[SEP]"])
    sounds.append(made.to_str())
    made = library.Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, "w": 3}, [("a", "b")]))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("x", "a")])
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    made.enable_padding(length=8)
    sounds.append(made.to_str())
    made = library.Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0), ("ab", -1.5)], 0))
    sounds.append(made.to_str())
    made = library.Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    sounds.append(made.to_str())
    path, text = at.path / "tokenizer.json", at.path / "text.txt"
    text.write_text("white box a b ab " * 20)
    at.path.joinpath("registry.yaml").write_text(
        at.path.joinpath("registry.yaml").read_text()
        + "  fuzz-text:\n    family: nanogpt\n    arch: {vocabulary: 300, block_size: 16, dim: 8, depth: 1, heads: 2}\n"
        f"    source: {{kind: path, path: {path}}}\n"
    )
    while True:
        sound = json.loads(random.choice(sounds))
        if random.random() < 0.8:
            what, changed = tree(random, sound)
            if isinstance(changed, dict) and random.random() < 0.4:
                name, value = random.choice(_TOKENIZERS)
                changed[name], what = value, f"{what}; {name} {str(value)[:60]}"
            try:
                path.write_bytes(json.dumps(changed).encode("utf-8", "surrogatepass"))
            except ValueError:
                continue
        else:
            what, held = damaged(random, json.dumps(sound).encode())
            path.write_bytes(held)
        shutil.rmtree(at.out, ignore_errors=True)
        words_ = ["run", "fuzz-text", "--weights", "random", *QUICK, "--data", str(text)]
        yield Case(what, [*words_, "--preprocess", f"text:{path}@8", "--out", str(at.out)])


_TOKENIZERS: tuple[tuple[str, Any], ...] = (
    ("padding", {"strategy": {"Fixed": 2**33}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}),
    ("padding", {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 2**40, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}),
    ("truncation", {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 5}),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}),
    ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "((((("}, "behavior": "Isolated", "invert": False}),
    ("pre_tokenizer", {"type": "FixedLength", "length": 0}),
    ("normalizer", {"type": "Replace", "pattern": {"String": "a"}, "content": "x" * 10**6}),
    ("normalizer", {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40}),
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "/////////////w=="}),
    ("normalizer", {"type": "Prepend", "prepend": "x" * 10**6}),
    ("post_processor", {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a", "type_id": 0}}] * 10**5, "pair": [], "special_tokens": {"a": {"id": "a", "ids": [5], "tokens": ["a"]}}}),
    ("added_tokens", [{"id": 2**32 - 1, "content": "a", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}]),
    ("model", {"type": "WordLevel", "vocab": {"a": 4294967295}, "unk_token": "a"}),
    ("model", {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a"], "max_input_chars_per_word": 2**62}),
    ("model", {"type": "Unigram", "unk_id": 99, "vocab": [["a", 0.0]]}),
    ("decoder", {"type": "Strip", "content": "a", "start": 2**62, "stop": 2**62}),
)  # fmt: skip


def results(random: Random, at: Folder) -> Iterator[Case]:
    """Folders of saved results, with and without the digests that a save leaves."""
    import pandas as pd

    from tests.fuzz.harness import call
    from whitebox_probe._core.gate import digest
    from whitebox_probe.results.result import Result

    sound, place = at.path / "sound", at.path / "r"
    words = [
        "run",
        "fuzz-tiny",
        "--data",
        str(at.path / "data.npy"),
        "--quiet",
        "--out",
        str(sound),
    ]
    assert call([*words, "--metrics", "l0,compression,coherence,coding_rate"])[0] == 0
    whole = Result.load(sound)
    told = json.loads((sound / "run.json").read_text())

    def unchanged() -> str:
        return "" if Result.load(place) == whole else "it is another result"

    def reseal(run: Any, *, own: bool) -> None:
        from whitebox_probe._core.io import sha256

        run["files"] = {
            n: sha256(place / n) for n in ("table.parquet", "samples.parquet", "matrices.npz")
        }
        run.pop("digest", None)
        if own:
            run["digest"] = digest(run)

    while True:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(sound, place)
        way = random.choice(
            ("run", "run", "run without digests", "bytes", "table", "samples", "matrices")
        )
        right: Any = unchanged
        run = json.loads(json.dumps(told))
        what = ""
        if way.startswith("run"):
            if way != "run":
                run.pop("digest"), run.pop("files"), run.pop("execution")
                right = None
            what, changed = tree(random, run)
            try:
                (place / "run.json").write_bytes(
                    json.dumps(changed).encode("utf-8", "surrogatepass")
                )
            except ValueError:
                continue
        elif way == "bytes":
            name = random.choice(("run.json", "table.parquet", "samples.parquet", "matrices.npz"))
            what, held = damaged(random, (sound / name).read_bytes())
            (place / name).write_bytes(held)
            if random.random() < 0.5 and name != "run.json":
                reseal(run, own=random.random() < 0.5)
                (place / "run.json").write_text(json.dumps(run))
        else:
            what, right = "written anew", None
            if way == "matrices":
                held = dict(whole.matrices)
                key = random.choice(list(held))
                other = random.choice(
                    (
                        None,
                        np.ones(3),
                        np.ones((2, 3)),
                        np.array(["a"]),
                        held[key] * np.nan,
                        held[key][:1],
                        held[key].astype(int),
                        np.ones((0, 2, 2)),
                        np.array(3),
                    )
                )
                held = (
                    {**held, key: other}
                    if other is not None
                    else {k: v for k, v in held.items() if k != key}
                )
                np.savez(place / "matrices.npz", **held)
            else:
                name = f"{way}.parquet"
                frame = pd.read_parquet(sound / name)
                column = random.choice(list(frame.columns))
                deed = random.choice(
                    (
                        "drop",
                        "text",
                        "nan",
                        "rows",
                        "index",
                        "rename",
                        "int",
                        "value",
                        "none",
                        "twice",
                    )
                )
                frame = {
                    "drop": lambda f: f.drop(columns=column),
                    "text": lambda f: f.assign(**{column: "\x1b[2Jx"}),
                    "nan": lambda f: f.assign(**{column: np.nan}),
                    "rows": lambda f: f.iloc[: random.choice((0, 1, len(f) // 2))],
                    "index": lambda f: f.set_axis([f"s{i}" for i in range(len(f))], axis=0),
                    "rename": lambda f: f.rename(columns={column: "\u202ename"}),
                    "int": lambda f: f.assign(**{column: range(len(f))}),
                    "value": lambda f: f.assign(**{column: 1e300}),
                    "none": lambda f: f.assign(**{column: None}),
                    "twice": lambda f: pd.concat([f, f]),
                }[deed](frame)
                what = f"{deed} {column}"
                frame.to_parquet(place / name)
            reseal(run, own=random.random() < 0.5)
            (place / "run.json").write_text(json.dumps(run))
        other = random.choice(
            (
                [
                    "plot",
                    str(place),
                    "--metric",
                    random.choice(("l0", "compression", "coherence")),
                    "--format",
                    "png",
                ],
                ["compare", str(place), str(sound), "--format", "png"],
                [
                    "plot",
                    str(place),
                    "--figure",
                    random.choice(("curves", "coherence", "change")),
                    "--format",
                    "png",
                ],
            )
        )
        yield Case(f"{way}, {what}", [*other, "--out", str(at.path / "f")], right)


def states(random: Random, at: Folder) -> Iterator[Case]:
    """Unfinished runs: their state and their arguments."""
    import hashlib  # noqa: F401 - states are resealed by what reads them

    from tests.fuzz.harness import call
    from whitebox_probe.probing import state as module

    sound = at.path / "unfinished"
    words = [
        "run",
        "fuzz-tiny",
        "--data",
        str(at.path / "data.npy"),
        "--quiet",
        "--batch-size",
        "1",
        "--metrics",
        "l0,compression,participation_ratio",
    ]
    usual = module.Saver.after_batch

    def stop(self: Any) -> None:
        usual(self)
        if self.batches == 2:
            self.save()
            raise KeyboardInterrupt

    module.Saver.after_batch = stop  # type: ignore[method-assign]
    assert call([*words, "--out", str(sound)])[0] == 130
    module.Saver.after_batch = usual  # type: ignore[method-assign]
    assert call([*words, "--out", str(at.path / "whole")])[0] == 0
    from whitebox_probe.results.result import Result

    whole = Result.load(at.path / "whole")
    name = "state-0-of-1.npz"
    with np.load(sound / name) as archive:
        arrays = dict(archive)

    def same() -> str:
        return "" if Result.load(place) == whole else "the table is another"

    place = at.path / "r"
    while True:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(sound, place)
        way = random.choice(("bytes", "arrays", "arrays", "about", "arguments"))
        right: Any = same
        if way == "bytes":
            what, held = damaged(random, (sound / name).read_bytes())
            (place / name).write_bytes(held)
        elif way == "arguments":
            what, changed = tree(random, json.loads((sound / "arguments.json").read_text()))
            try:
                (place / "arguments.json").write_bytes(
                    json.dumps(changed).encode("utf-8", "surrogatepass")
                )
            except ValueError:
                continue
        else:
            changed_arrays = dict(arrays)
            reseal = random.random() < 0.6
            about = json.loads(str(changed_arrays.pop("about")))
            if way == "about":
                what, about = tree(random, about)
            else:
                key = random.choice(list(changed_arrays))
                old = changed_arrays[key]
                deed = random.choice(("value", "cut", "type", "shape", "remove", "text", "add"))
                what = f"{deed} {key}"
                if deed == "value":
                    changed_arrays[key] = old + 1
                elif deed == "cut":
                    changed_arrays[key] = old[:1] if old.ndim else old.reshape(1)
                elif deed == "type":
                    changed_arrays[key] = old.astype(random.choice(("f4", "i8", "?", "U5")))
                elif deed == "shape":
                    changed_arrays[key] = old.reshape(1, -1)
                elif deed == "text":
                    changed_arrays[key] = np.array(["\x1b"])
                elif deed == "add":
                    changed_arrays["sum/0/9/x"] = old
                else:
                    del changed_arrays[key]
            if reseal and isinstance(about, dict):
                about.pop("digest", None)
                try:
                    about["digest"] = module._digest(about, changed_arrays)
                except (TypeError, ValueError, RecursionError):
                    continue
                right = None  # a digest is no signature: what is well formed is taken
            try:
                text = json.dumps(about)
            except (ValueError, RecursionError):
                continue
            np.savez(place / name, about=np.array(text), **changed_arrays)
        yield Case(f"{way}, {what}", ["run", "--resume", str(place), "--quiet"], right)


def settings(random: Random, at: Folder) -> Iterator[Case]:
    """Values on the command line."""
    options = ("--seed", "--eps", "--lam", "--limit", "--batch-size", "--fit-limit", "--basis", "--null", "--device", "--metrics", "--sites", "--name", "--dtype", "--convention", "--wrapper", "--preprocess", "--data", "--arch", "--mapping", "--separator", "--save-every")  # fmt: skip
    values = ("0", "-1", "1e-300", "1e300", "nan", "inf", "-inf", "9223372036854775807", "9223372036854775808", "1" * 400, "", " ", ",", "a,b", "l0,l0", "0.1,0.1", "none", "meta", "cuda:99", "mps", "cpu:7", "x", "\x1b[2J", "\u202e", "x" * 10**5, "/dev/zero", "/dev/null", "/", "~nobody", "a\0b", "true", "null", "[[[[", "{}", "l0=z_in", "=", "text:@", "text:bytes@0", "text:bytes@99999999999", "imagenet", "../x", "model.py:make", "hf:", "hf:..", "timm:", "timm:x@y", "hf:a/b/c", "1e-100", "1e100")  # fmt: skip
    models = ("fuzz-tiny", "fuzz-tiny", "crate_mae", "timm:vit_tiny_patch16_224")
    names = (*ARCH, "extra_head", "interpolate_positions", "checkpoint_path", "pretrained", "model", "x", "act_layer", "norm_layer", "img_size", "embed_dim", "num_heads", "device", "block_fn", "pretrained_cfg", "pretrained_cfg_overlay", "mlp_ratio", "norm_eps", "drop_rate", "init_values")  # fmt: skip
    fifo, loop, link = at.path / "pipe.txt", at.path / "loop.txt", at.path / "gone.txt"
    if not fifo.exists():
        os.mkfifo(fifo)
        loop.symlink_to(loop)
        link.symlink_to(at.path / "nothing")
    paths = [
        str(p)
        for p in (fifo, loop, link, at.path, at.path / ("x" * 300), "/dev/zero", "/dev/stdin")
    ]
    while True:
        if random.random() < 0.6:
            model = random.choice(models)
            if model == "crate_mae":
                model = "fuzz-tiny"
            name = random.choice(names)
            value = random.choice(
                (
                    json.dumps(pool(random)) if random.random() < 0.7 else random.choice(values),
                    "1e999",
                    "NaN",
                    "100000000",
                    "3",
                )
            )
            words = at.run(model, "--weights", "random", "--set", f"{name}={value}")
            what = f"{name}={value[:40]}"
        elif random.random() < 0.5:
            option, value = random.choice(options), random.choice((*values, *paths))
            words = at.run("fuzz-tiny")
            if option in words:
                words[words.index(option) + 1] = value
            else:
                words += [option, value]
            what = f"{option} {value[:40]}"
        else:
            path = random.choice((*paths, *values))
            words = random.choice(
                (
                    at.run(path, "--arch", "fuzz-tiny"),
                    at.run(path),
                    ["plot", path, "--metric", "l0", "--out", str(at.out)],
                    ["compare", path, path, "--out", str(at.out)],
                    ["run", "--resume", path],
                    ["info", path],
                    ["fetch", path, "--quiet"],
                    at.run("fuzz-tiny", "--data", path),
                )
            )
            what = f"{words[0]} {path[:60]}"
        if any(word.startswith("hf:a") for word in words):
            continue
        yield Case(what, words)


KINDS = {
    "checkpoints": checkpoints, "pickles": pickles, "safetensors": safetensors, "arrays": arrays,
    "onnx": onnx, "registries": registries, "configs": configs, "tokenizers": tokenizers,
    "results": results, "states": states, "settings": settings,
}  # fmt: skip
