"""Every example of a page is run as it stands, or says why not."""

import re
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whitebox_probe.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    str(page.relative_to(DOCS)): page
    for page in sorted(DOCS.rglob("*.md"))
    if "_build" not in page.parts
}
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+?) -->\n)?^```(?P<language>python|bash|r)\n(?P<code>.*?)^```",
    re.S | re.M,
)
RUN = (
    "families.md",
    "figures.md",
    "how-to/hugging-face.md",
    "how-to/lightning.md",
    "how-to/lora.md",
    "how-to/timm.md",
    "index.md",
    "notebooks.md",
    "results.md",
    "training.md",
    "tutorial.md",
)
ELSEWHERE = {
    "calibration.md": "tests/auditing",
    "data.md": "test_docs.py",
    "families.md": "test_docs.py",
    "measures.md": "test_docs.py",
    "plug-ins.md": "test_plug_ins.py",
    "your-own-model.md": "test_docs.py",
    "gallery.md": "docs/gallery.py makes the page by these calls, and test_gallery.py reads them",
}
"""Pages whose examples in Python another test runs."""
WHOLE = {
    "command-line.md": "test_readme.py",
    "report.md": "tests/reporting/test_report_command.py",
    "sweep.md": "tests/sweeping/test_page.py",
    "walk-through.md": "test_readme.py",
}
"""Pages of which another test runs every example."""
NEEDS = {
    "how-to/hugging-face.md": "datasets",
    "how-to/lora.md": "peft",
    "notebooks.md": "ipywidgets",
}


def blocks(page):
    """Language, code, and why it is not run, of each example of a page."""
    return [(f["language"], f["code"], f["why"]) for f in BLOCK.finditer(page.read_text())]


def photos(folder):
    """Some images, and a state dict of timm in a file of Lightning."""
    (folder / "photos" / "val").mkdir(parents=True)
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / "val" / f"{number}.jpg")


def of_lightning(folder):
    """A checkpoint as Lightning writes it, with the network under `model.`."""
    import timm

    photos(folder)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    held = {
        "state_dict": {f"model.{key}": value for key, value in network.state_dict().items()},
        "epoch": 3,
        "global_step": 400,
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": 1e-3},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    }
    torch.save(held, folder / "epoch=3.ckpt")


PREPARE = {"how-to/timm.md": photos, "how-to/lightning.md": of_lightning}
BEFORE = {
    "figures.md": "import whitebox_probe as wp\n"
    'both = [wp.probe(n, "fashion-mnist", "compression", limit=16, progress=False)'
    ' for n in ("crate-tiny-fmnist", "vit-tiny-fmnist")]\n'
    "crate, vit = both\n",
    "training.md": "import torch, torch.nn.functional as F, whitebox_probe as wp\n"
    'model = wp.load("crate-tiny-fmnist").module.requires_grad_(True)\n'
    "held_out = torch.randn(16, 1, 28, 28)\n"
    "loader = [(torch.randn(8, 1, 28, 28), torch.arange(8))] * 3\n"
    "optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)\n",
}
"""What a page's readers have at hand already."""


def commands(code):
    """The command lines of a block, without comments."""
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", [name for name in PAGES if name not in (*RUN, *WHOLE)])
def test_examples_that_are_not_run_say_why(name):
    elsewhere = "python" if name in ELSEWHERE else None
    silent = [c for language, c, why in blocks(PAGES[name]) if not why and language != elsewhere]
    assert silent == []


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_examples_of_a_page_run(name, tmp_path, monkeypatch, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)
    PREPARE.get(name, lambda folder: None)(tmp_path)
    names = {"__name__": "example"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(BEFORE.get(name, ""), names)
        for language, code, why in blocks(PAGES[name]):
            if why or (name in ELSEWHERE and language == "python"):
                continue
            if language == "python":
                exec(compile(code, name, "exec"), names)
            for words in commands(code) if language == "bash" else ():
                assert words[0] == "whitebox-probe"
                assert main(words[1:]) == 0, (words, capsys.readouterr().err)


def test_a_page_that_is_named_here_is_there_and_has_examples():
    named = (*RUN, *ELSEWHERE, *WHOLE)
    assert set(named) <= set(PAGES)
    assert all(blocks(PAGES[name]) for name in named)


def test_an_example_and_its_reason_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: too long -->\n```bash\na \\\n  b\n```\n\n```python\nx = 1\n```\n"
    )
    assert blocks(page) == [("bash", "a \\\n  b\n", "too long"), ("python", "x = 1\n", None)]
    assert commands("a \\\n  b # c\n") == [["a", "b", "#", "c"]]
