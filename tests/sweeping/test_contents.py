"""What a cell is told by: another content is another cell, another place of the same is not."""

import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from whitebox_probe._core.errors import SweepError
from whitebox_probe.sweeping import contents, place
from whitebox_probe.sweeping.contents import of_data, of_model

VIT, CRATE = "vit-tiny-fmnist", "crate-tiny-fmnist"
TIMM = "timm:vit_tiny_patch16_224"


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2)}, path)
    return path


def arch_of(weights, text):
    return of_model({"model": str(weights), "arch": str(text)})["arch"]


def test_an_architecture_is_told_by_the_code_that_makes_it(weights, tmp_path):
    code = tmp_path / "net.py"
    code.write_text("def net(): return 1\n")
    first = arch_of(weights, f"{code}:net")
    assert arch_of(weights, f"{code}:other") != first
    code.write_text("def net(): return 22\n")
    assert arch_of(weights, f"{code}:net") != first
    with pytest.raises(SweepError, match="there is no file .*gone.py"):
        arch_of(weights, f"{tmp_path}/gone.py:net")


def test_an_architecture_is_told_by_the_code_beside_it_too(weights, tmp_path):
    files = {
        "net.py": "from helper import HEADS\nimport parts.blocks\ndef net(): import late\n",
        "helper.py": "HEADS = 4\n",
        "parts/__init__.py": "from . import common\n",
        "parts/blocks.py": "from .deep.base import Base\nimport torch\n",
        "parts/common.py": "",
        "parts/deep/base.py": "Base = int\nfrom ...outside import x\nfrom .... import y\n",
        "late.py": "A = '\\d'\nimport net\n",
        "broken.py": "def (",
    }
    other = {"unrelated.py": "import helper\n", "torch.txt": ""}
    for name, held in (files | other).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(held)
    (tmp_path / "net.py").write_text(files["net.py"] + "try: import broken\nexcept: pass\n")
    reference = f"{tmp_path / 'net.py'}:net"
    seen = [arch_of(weights, reference)]
    for name in files:
        (tmp_path / name).write_text((tmp_path / name).read_text() + "# another\n")
        assert arch_of(weights, reference) not in seen, name
        seen.append(arch_of(weights, reference))
    (tmp_path / "unrelated.py").write_text("import net\n")
    assert arch_of(weights, reference) == seen[-1]


def test_a_module_of_the_working_directory_is_told_by_its_code(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = tmp_path / "mynet.py"
    code.write_text("def net(): return 1\n")
    first = arch_of(weights, "mynet:net")
    code.write_text("def net(): return 2\n")
    assert arch_of(weights, "mynet:net") != first
    assert arch_of(weights, "torch.nn:Linear") == ["torch.nn", "Linear"]


def test_code_that_this_process_has_in_an_older_form_is_refused(weights, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "net.py").write_text("import my_helper_of_old\n")
    helper = tmp_path / "my_helper_of_old.py"
    helper.write_text("HEADS = 4\n")
    arch_of(weights, f"{tmp_path}/net.py:net")
    __import__("my_helper_of_old")
    try:
        arch_of(weights, f"{tmp_path}/net.py:net")
        helper.write_text("HEADS = 2\n")
        with pytest.raises(SweepError, match="has changed since it was imported"):
            arch_of(weights, f"{tmp_path}/net.py:net")
    finally:
        del sys.modules["my_helper_of_old"]


def test_a_file_of_the_same_size_and_time_is_read_again(weights, tmp_path):
    data = tmp_path / "x.npy"
    np.save(data, np.zeros((2, 3), np.float32))
    state, first = data.stat(), of_data({"data": str(data)})
    np.save(data, np.ones((2, 3), np.float32))
    os.utime(data, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert of_data({"data": str(data)}) != first


def test_an_architecture_by_a_name_is_what_the_registry_says_of_it(weights):
    assert arch_of(weights, "crate_tiny") == arch_of(weights, "crate_tiny")
    assert arch_of(weights, "crate_tiny") != arch_of(weights, "crate_small")
    assert arch_of(weights, TIMM) == TIMM
    assert arch_of(weights, CRATE) != arch_of(weights, VIT)
    assert arch_of(weights, CRATE)[0] == "crate"


def test_a_model_is_told_by_its_files_and_a_name_of_a_hub_by_itself(weights, tmp_path):
    first = of_model({"model": str(weights)})
    again = tmp_path / "elsewhere.safetensors"
    again.write_bytes(weights.read_bytes())
    assert of_model({"model": str(again)}) == first
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    by_folder = of_model({"model": f"hf:{folder}"})
    assert of_model({"model": str(folder)}) == by_folder
    (folder / ".hidden").write_text("counts for nothing")
    assert of_model({"model": f"hf:{folder}"}) == by_folder
    (folder / "config.json").write_text('{"a": 1}')
    assert of_model({"model": f"hf:{folder}"}) != by_folder
    assert of_model({"model": "hf:google/vit"}) == {"model": "hf:google/vit"}
    assert of_model({"model": TIMM}) == {"model": TIMM}


def test_a_mapping_counts_by_its_content(weights, tmp_path):
    mapping = tmp_path / "sites.yaml"
    mapping.write_text("z_out: a\n")
    first = of_model({"model": str(weights), "mapping": str(mapping)})
    mapping.write_text("z_out: b\n")
    assert of_model({"model": str(weights), "mapping": str(mapping)}) != first
    assert "mapping" not in of_model({"model": str(weights), "mapping": "vit"})


@pytest.mark.parametrize("large", [False, True])
def test_data_of_a_folder_and_of_a_file_count_by_content(large, tmp_path, monkeypatch):
    if large:  # by sizes and times, which tell a change too
        monkeypatch.setattr(contents, "LARGE", 0)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (4, 4)).save(pictures / "a.png")
    tokens = tmp_path / "tokens.npy"
    np.save(tokens, np.ones((2, 3), np.float32))
    first = [of_data({"data": str(each)}) for each in (pictures, tokens)]
    assert [of_data({"data": str(each)}) for each in (pictures, tokens)] == first
    Image.new("RGB", (4, 4), "red").save(pictures / "a.png")
    Image.new("RGB", (4, 4), "red").save(pictures / "b.png")
    np.save(tokens, np.ones((3, 3), np.float32))
    now = [of_data({"data": str(each)}) for each in (pictures, tokens)]
    assert now[0] != first[0]
    assert now[1] != first[1]
    assert first[0]["data"][0] == "folder"
    assert first[1]["data"][0] == "files"
    assert of_data({"data": "fashion-mnist"}) == {"data": "fashion-mnist"}


def test_a_file_that_cannot_be_read_is_told(weights, tmp_path):
    with pytest.raises(SweepError, match="cannot be read: No such file"):
        of_model({"model": str(weights), "mapping": str(tmp_path / "gone.yaml")})


@pytest.mark.parametrize("held", ['{"line": 5, "fault": "x"}', "[]", '{"line": "it failed"}', "{"])
def test_why_a_cell_failed_is_read_by_its_form(held, tmp_path):
    (tmp_path / place.FAILED).write_text(held)
    found = place.failure_of(tmp_path)
    assert not found.fault
    assert "failed.json cannot be read: " in found.line
    place.fail(tmp_path, place.Failure("it failed", fault=True), "a\nb")
    assert place.failure_of(tmp_path) == place.Failure("it failed", fault=True)


@pytest.mark.parametrize("name", ["model", "mapping"])
def test_a_pipe_and_a_device_are_not_waited_for(name, tmp_path, weights):
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero" if name == "model" else pipe):
        with pytest.raises(SweepError, match="cannot be read: it is a"):
            of_model({"model": str(weights), name: str(path)})
