"""What comes from outside has one reader a kind; nothing else reads it, and nothing of it acts."""

import json
import os
import re
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from tests.fuzz.__main__ import tried
from tests.fuzz.kinds import ARCH, KINDS
from whitebox_probe._core.arrays import mapped_array, read_arrays
from whitebox_probe._core.errors import CheckpointError, ProbeError
from whitebox_probe._core.gate import (
    Unfit,
    expect,
    given_path,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
    size_of,
)
from whitebox_probe._core.html import escape
from whitebox_probe._core.lines import shown

ROOT = Path(__file__).parents[1] / "whitebox_probe"
RAW = re.compile(
    r"\btorch\.(jit\.)?load\(|\bnp\.load\(|\bnumpy\.load\(|\bjson\.loads?\(|\byaml\.\w*load\w*\("
    r"|\bpd\.read_\w+\(|\bpickle\.loads?\(|\bload_file\(|\bonnx\.load\(|Tokenizer\.from_\w+\("
    r"|AutoConfig\.from_pretrained\(|AutoTokenizer\.from_pretrained\("
    r"|AutoImageProcessor\.from_pretrained\("
)
READERS = {
    "_core/gate.py": {"json.loads(", "yaml.load("},
    "checkpoints/_safetensors.py": {"load_file("},
    "checkpoints/_onnx.py": {"onnx.load("},
    "results/reading.py": {"pd.read_parquet("},
    "results/table.py": {"pd.read_csv("},
    "models/configuration.py": {"AutoConfig.from_pretrained("},
    "data/text.py": {"Tokenizer.from_str("},
    "data/_tokenizer_folders.py": {"AutoTokenizer.from_pretrained("},
    "data/_tokenizer_files.py": {"Tokenizer.from_str("},
    "checkpoints/_formats.py": {"torch.jit.load("},  # in words, for a user to do
    # What this package itself has just written, or wrote for itself, is no input from outside.
    "cli/run.py": {"json.loads("},
    "results/folder.py": {"json.loads("},
    "sweeping/contents.py": {"json.loads("},
    "probing/state.py": {"json.loads("},
    "probing/probe.py": {"json.loads("},
    "metrics/_packing.py": {"json.loads("},
    "models/processors.py": {"json.loads(", "AutoImageProcessor.from_pretrained("},
    "models/preprocess.py": {"json.loads("},
    "training/files.py": {"torch.load(", "json.loads("},  # of what has its digest; weights alone
}
"""The files that call a library's reader, and which."""


def test_no_library_reads_a_file_outside_of_the_readers():
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        found = {match[0] for match in RAW.finditer(path.read_text())}
        assert found <= READERS.get(name, set()), name


@pytest.mark.parametrize("kind", KINDS)
def test_some_hostile_inputs_of_each_kind_end_in_one_line(kind):
    counts = tried(kind, seed=1, minutes=1.0, most=12)
    assert counts.faults == []
    assert counts.tried >= 4


def test_what_is_no_plain_file_is_said_to_be_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    told = {"pipe": "pipe", "link": "link to nothing", "loop": "symbolic links", ".": "folder"}
    for name, why in told.items():
        with pytest.raises(Unfit, match=why):
            size_of(tmp_path / name)
    with pytest.raises(Unfit, match="device"):
        read_bytes(Path("/dev/zero"))
    for name in ("a\0b", "~no-such-user-of-this-machine/x"):
        with pytest.raises(Unfit):
            given_path(name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 10**5, "nested too deeply"),
        ("[" * 100 + "]" * 100, "nested too deeply"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        (r'{"a": "\ud800"}', "half of a surrogate pair"),
        ("{", "no JSON"),
        ("1" * 5000, "."),
    ],
)
def test_json_that_is_none_is_told(text, why):
    with pytest.raises(Unfit, match=why):
        parse_json(text)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{two}'] * 9)}]\n"
    for one, two in zip("bcdefghij", "abcdefghi", strict=True)
)


KINDS = {
    "float ''": "",
    "float _": "_",
    "float 1:x": "1:x",
    "float '1:30'": "1:30",
    "int ''": "",
    "int x": "x",
    "int 0x": "0x",
    "int 1.5": "1.5",
    "bool x": "x",
    "timestamp x": "x",
}
"""Tag and text that do not go together, and the text."""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "its aliases written out"),
        ("a: &a [*a]", "stands in what it names"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML"),
        ("a: 2001-01-01", "it holds a date"),
        ("a: 2001-99-99", "'2001-99-99' in line 1 is no value of the kind timestamp"),
        *(
            (f"b: 1\na: !!{tag}", f"'{told}' in line 2 is no value of the kind {tag.split()[0]}")
            for tag, told in KINDS.items()
        ),
        ("1: a", "no text"),
        ("a: .nan", "number nan"),
        ("[" * 900, "nested too deeply|not YAML"),
        ("a: 1\na: 2", "stands twice"),
    ],
)
def test_yaml_that_is_none_is_told(text, why):
    start = time.monotonic()
    with pytest.raises(Unfit, match=why):
        parse_yaml(text)
    assert time.monotonic() - start < 5


def test_a_large_file_is_not_read(tmp_path):
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(Unfit, match="at most"):
        read_json(tmp_path / "x.json")


def of_header(told, numbers=b"\0" * 16):
    text = told.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + numbers


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (10**12,), }", "."),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
            "not have as many",
        ),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", "Python objects"),
        ("{'descr': '|V4', 'fortran_order': False, 'shape': (4,), }", "holds no numbers"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4), }", "has the shape"),
    ],
)
def test_a_header_of_an_array_is_not_taken_at_its_word(tmp_path, header, why):
    (tmp_path / "x.npy").write_bytes(of_header(header))
    with pytest.raises(Unfit, match=why):
        mapped_array(tmp_path / "x.npy")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("a.npy", of_header(header))
    with pytest.raises(Unfit, match=why):
        read_arrays(tmp_path / "x.npz")


def test_arrays_are_read_as_numpy_reads_them(tmp_path):
    random = np.random.default_rng(0)
    held = {
        "a": random.normal(size=(3, 4)),
        "b": np.asfortranarray(random.normal(size=(3, 4)).astype("f4")),
        "c": np.arange(5, dtype=">i4"),
        "d": np.array(3.5),
        "e": np.ones((0, 3)),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **held)
        found = read_arrays(tmp_path / "x.npz")
        assert found.keys() == held.keys()
        for name, array in held.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].flags.writeable
            assert found[name].dtype.isnative
    for array in held.values():
        np.save(tmp_path / "x.npy", array)
        np.testing.assert_array_equal(mapped_array(tmp_path / "x.npy"), array)


def test_an_archive_that_was_packed_anew_gives_the_same_numbers(tmp_path):
    state = {"a": torch.randn(300, 7), "b": torch.arange(5)}
    torch.save(state, tmp_path / "x.pth")
    for how in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        with (
            zipfile.ZipFile(tmp_path / "x.pth") as old,
            zipfile.ZipFile(tmp_path / "y.pth", "w", how) as new,
        ):
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
        from whitebox_probe.checkpoints import read_state_dict

        found = read_state_dict(tmp_path / "y.pth")
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    with zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_BZIP2) as new:
        new.writestr("a/data.pkl", b"\x80\x02}.")
    with pytest.raises(CheckpointError, match="packed in a way that is not read"):
        read_state_dict(tmp_path / "y.pth")


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\u202e", "\u200b", "\x00", "\ud800", "\u3164", "\x9b"]
)
def test_text_from_files_does_not_act(text):
    assert shown(f"a{text}b").isprintable()
    assert text not in shown(f"a{text}b")
    assert text not in escape(f"a{text}b")
    line = str(ProbeError(f"a{text}b", text * 1000, f"{text}c"))
    assert line.isprintable()
    assert text not in line


def test_an_error_is_short_whatever_it_tells():
    for what in ("x" * 10**6, "a " * 10**5):
        line = str(ProbeError(what, what, what))
        assert len(line) <= 470
        assert line.count("...") >= 3
    assert str(ProbeError("a", "b", "c.")) == "a: b. c."


def test_a_network_that_no_memory_holds_is_refused_before_it_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr("whitebox_probe.models.room.available", lambda: 1 << 30)
    torch.save({}, tmp_path / "x.pth")
    for change in ({"depth": 10**8}, {"dim": 2**20, "depth": 1000}, {"depth": 1024, "dim": 20000}):
        start = time.monotonic()
        with pytest.raises(CheckpointError, match="cannot be built"):
            wp.load(tmp_path / "x.pth", arch={"family": "crate", **ARCH, **change})
        assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("timm_vit", {"checkpoint_path": "evil.pth"}),
        ("timm_vit", {"pretrained": True}),
        ("timm_vit", {"pretrained_cfg": {"file": "evil.pth"}}),
        ("timm_vit", {"pretrained_cfg_overlay": {"file": "evil.pth"}}),
        ("timm_vit", {"block_fn": "evil"}),
        ("timm_vit", {"act_layer": "evil.Act"}),
        ("timm_eva", {"norm_layer": "evil"}),
        ("hf", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("hf", {"attn_implementation": "evil/kernel"}),
        ("hf", {"_attn_implementation": "evil/kernel"}),
        ("hf", {"tower": 3}),
        ("crate", {"eta": "0.1"}),
        ("crate", {"dim": True}),
        ("crate", {"lam": float("nan")}),
    ],
)
def test_an_argument_that_steers_a_library_is_refused(family, change):
    from whitebox_probe.models.registry import build, family_named

    arch = dict(family_named(family).example[0])
    build(family, arch, source="it")
    with pytest.raises(CheckpointError):
        build(family, {**arch, **change}, source="it")


def test_every_plain_argument_of_timms_networks_is_known_or_left_out():
    import inspect

    from timm.models.beit import Beit
    from timm.models.cait import Cait
    from timm.models.eva import Eva
    from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_relpos import VisionTransformerRelPos

    from whitebox_probe.models.families._timm_arguments import ARGUMENTS, LEFT_OUT

    for network in (
        VisionTransformer,
        Eva,
        Beit,
        Cait,
        VisionTransformerRelPos,
        NaFlexVit,
        NaFlexVitCfg,
    ):
        names = set(inspect.signature(network).parameters)
        assert names <= ARGUMENTS.keys() | LEFT_OUT, network
    assert not ARGUMENTS.keys() & LEFT_OUT


def test_a_configuration_does_not_have_transformers_look_for_code(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    from transformers.integrations import hub_kernels

    config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=23, n_positions=20)
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    plain = wp.load(f"hf:{tmp_path}").module
    told = json.loads((tmp_path / "config.json").read_text())
    told |= {
        "_attn_implementation": "kernels-community/flash-attn",
        "attn_implementation": "kernels-community/flash-attn",
        "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"},
        "kernel_config": {"RMSNorm": "evil/kernel"},
    }
    (tmp_path / "config.json").write_text(json.dumps(told))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")

    def fetched(*args, **kwargs):
        raise AssertionError("it looked for a kernel")

    for name in ("get_kernel", "load_and_register_attn_kernel"):
        if hasattr(hub_kernels, name):
            monkeypatch.setattr(hub_kernels, name, fetched)
    found = wp.load(f"hf:{tmp_path}").module
    assert found.config._attn_implementation in ("sdpa", "eager")
    assert not (tmp_path / "ran").exists()
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), found.parameters(), strict=True)
    )


@pytest.mark.parametrize("value", [4.0, -0.0, 1e300, True, "4"])
def test_an_integer_is_no_float(value):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "x": {"type": "number"}}}
    expect(schema, {"n": 4, "x": 4.0})
    with pytest.raises(Unfit, match="n must be integer"):
        expect(schema, {"n": value})


def test_numbers_are_those_of_yaml_1_2():
    found = parse_yaml("a: [010, 007, 08, 1:30, 1:30.5, 1_000, 0x1F, 0b11, -5, 1.5, 1.0e-3, .5]")
    assert found["a"] == [10, 7, 8, "1:30", "1:30.5", 1000, 31, 3, -5, 1.5, 0.001, 0.5]
    assert parse_yaml("a: !!int 010") == {"a": 10}
    assert parse_yaml("a: [-0x10, +0b11]") == {"a": [-16, 3]}
    found = parse_yaml("a: [1e-3, 5E-4, 1e+5, 1.5e3, 1.e3, +.5e1, 12e5, 1.2.3]")
    assert found["a"] == [0.001, 0.0005, 1e5, 1500.0, 1000.0, 5.0, 12e5, "1.2.3"]
    found = parse_yaml("a: [0o17, 1e1, 1E3, -2e2, 0e9, 1e18, 1e300, 1.0e1, 1_0e1]")["a"]
    assert found == [15, 10, 1000, -200, 0, 1e18, 1e300, 10.0, 100]
    assert [type(each) for each in found] == [int] * 5 + [float] * 3 + [int]
    assert parse_yaml("a: [!!float 5, !!float 1e1, !!float .5]") == {"a": [5.0, 10.0, 0.5]}
    assert parse_yaml("a: [0o8, 1e, e3, 12ab, -0x]") == {"a": ["0o8", "1e", "e3", "12ab", "-0x"]}
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a, b: 2}")["c"] == {"b": 2}
