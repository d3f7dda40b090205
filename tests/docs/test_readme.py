"""README and the pages of the command line: short, and run as they stand."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import timm
import torch
from PIL import Image

import whitebox_probe as wp
from tests.docs.blocks import ROOT, blocks, commands, expect_runs
from whitebox_probe.checkpoints import architecture
from whitebox_probe.models.registry import build

README = "README.md"
WALK, LINE = "docs/walk-through.md", "docs/command-line.md"
INSTALLS = "pip install"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photos(folder):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(3):
        pixels = random.integers(0, 256, (240, 260, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")


def vit(name, path, classes=1000):
    torch.save(timm.create_model(name, num_classes=classes).state_dict(), path)


def test_the_readme_is_one_screen():
    assert len((ROOT / README).read_text().split()) < 700


def test_every_block_of_the_readme_is_told_apart():
    """What installs is run by CI; everything else is run below."""
    told = [INSTALLS in block for block in blocks(README, "bash")]
    assert told[:2] == [True, True]
    assert not any(told[2:])
    assert len(blocks(README, "python")) == 1
    assert blocks(README, "text") == []


@pytest.mark.slow
def test_the_blocks_of_the_readme_run(here, capsys):
    vit("vit_tiny_patch16_224", here / "checkpoint.pth", classes=7)
    photos(here / "pictures")
    for block in blocks(README, "bash"):
        for words in commands(block) if INSTALLS not in block else ():
            expect_runs(words)
    told = capsys.readouterr().out
    assert "vit-tiny-fmnist minus crate-tiny-fmnist, 200 samples in pairs" in told
    assert len(wp.Result.load("runs/mine").samples) == 3


def test_the_python_of_the_readme_runs(here, capsys):
    exec(compile(blocks(README, "python")[0], README, "exec"), {"__name__": "readme"})
    plt.close("all")
    assert "ci_high" in capsys.readouterr().out
    assert (here / "compression.pdf").read_bytes().startswith(b"%PDF")


def test_the_numbers_of_the_readme_are_those_of_the_findings():
    """What is measured stands in one place; README repeats some of it."""
    found = (ROOT / "docs" / "findings.md").read_text()
    section = (ROOT / README).read_text().partition("## What it found")[2].partition("\n## ")[0]
    section = re.sub(r"<img.*?>", "", section)
    numbers = re.findall(r"\d+(?:\.\d+)?%?", section)
    assert len(numbers) >= 14
    assert [number for number in numbers if number not in found] == []


@pytest.mark.slow
def test_the_walk_through_runs(here, capsys):
    family, arch = architecture("crate_small")
    network = build(family, arch, source="a test")
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, here / "model_best.pth.tar")
    vit("vit_small_patch16_224", here / "vit_small.pth")
    photos(here / "imagenet" / "val" / "n01440764")
    (here / "book.txt").write_text("And God said, Let there be light: and there was light. " * 60)
    pytest.importorskip("tokenizers")
    for block in blocks(WALK, "bash"):
        for words in commands(block):
            expect_runs(words)
    told = capsys.readouterr().out
    assert "vit_small minus model_best, 3 samples in pairs, nats divided by n" in told
    assert Path("runs/both/differences.csv").is_file()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_python_of_the_walk_through_runs(capsys):
    names = {"__name__": "walk"}
    for block in blocks(WALK, "python"):
        exec(compile(block, WALK, "exec"), names)
    plt.close("all")
    assert names["recording"]["z_half", 3].shape == (2, 50, 96)
    assert "toprule" in capsys.readouterr().out


def test_the_page_of_the_command_line_runs(here, capsys):
    written = {}
    for block in blocks(LINE, "bash"):
        for words in commands(block):
            *words, sign, file = words
            assert sign == ">"
            expect_runs(words)
            written[file] = capsys.readouterr().out
    assert json.loads(written["metrics.json"])["metrics"]
    assert json.loads(written["run.json"])["runs"][0]["samples"] == 20
    assert "complete -" in written["whitebox-probe.bash"]
