"""The pages of docs/: their tables agree with the code, their code runs, their links are there."""

import importlib.util
import re
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.models.registry import build, families

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
ELSEWHERE = re.compile(r"\w+:")  # an address, or a scheme of docs/links.toml


def loaded():
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = loaded()


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_is_what_the_code_gives(name):
    if name == "families":
        pytest.importorskip("transformers")
    page, make = tables.TABLES[name]
    text = (DOCS / page).read_text()
    assert tables.rewritten(text, name, make) == text, "run: python docs/tables.py"


def test_a_stale_table_is_noticed():
    text = (DOCS / "measures.md").read_text().replace("`hoyer`", "`hoier`")
    assert tables.rewritten(text, "measures", tables.measures) != text


def test_every_family_says_what_was_tested():
    text = (DOCS / "families.md").read_text().partition("<!-- table: families -->")[2]
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    assert [row[1].strip(" `") for row in rows] == list(families())
    assert all(len(row[-2].strip()) > 40 for row in rows)


def test_the_page_of_installing_lists_every_extra():
    config = (ROOT / "setup.cfg").read_text()
    section = config.partition("[options.extras_require]")[2].partition("\n[")[0]
    text = (DOCS / "installing.md").read_text()
    for extra in re.findall(r"^(\w+) =", section, flags=re.M):
        assert f"`{extra}`" in text, extra


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_worked_example_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "your-own-model.md").read_text(), re.S)
    assert len(blocks) == 5
    names = {"__name__": "your_own_model"}
    for block in blocks:
        exec(compile(block, "your-own-model.md", "exec"), names)
    assert "ci_low" in capsys.readouterr().out
    assert names["result"].run["family"] == "custom"
    assert names["by_query"].run["basis"] == "qkv:q"


def test_the_example_of_a_masked_autoencoder_runs(tmp_path, monkeypatch):
    section = (DOCS / "families.md").read_text().partition("## Masked autoencoders")[2]
    code = re.findall(r"```python\n(.*?)```", section, re.S)[0]
    arch = {"image_size": 32, "dim": 48, "depth": 1, "decoder_depth": 1, "heads": 12}
    network = build("crate_mae", arch | {"dim_head": 4, "lam": 0.5}, source="a test")
    torch.save({"model": network.state_dict()}, tmp_path / "crate_mae_base.pth")
    (tmp_path / "photos").mkdir()
    for i in range(3):
        picture = torch.randint(256, (40, 50, 3), dtype=torch.uint8)
        Image.fromarray(picture.numpy()).save(tmp_path / "photos" / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "masked"}
    exec(compile(code, "families.md", "exec"), names)
    assert names["result"].run["network"]["arch"]["mask_ratio"] == 0.75
    assert (tmp_path / "reconstruction.pdf").stat().st_size > 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not ELSEWHERE.match(link):
            copied = link.startswith("notebooks/") and (ROOT / link).is_file()
            assert copied or (page.parent / link).exists(), link


def test_every_metric_has_its_cost_listed_and_says_if_it_is_heavy():
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+)% \| (on|off) \|", text, re.M)
    known = catalogue()
    # Coherence runs no forward pass; its cost stands in the sentence above the table.
    assert sorted(name for name, _, _ in rows) == sorted(set(known) - {"coherence"})
    for name, added, default in rows:
        assert known[name].heavy == (float(added) > 10), name
        assert known[name].default == (default == "on"), name
    allowed = {"coding_rate", "compression", "rate_reduction", "sparse_rate_reduction"}
    assert {name for name, kind in known.items() if kind.heavy and kind.default} == allowed


def test_the_examples_of_settings_and_of_torchmetrics_run():
    text = (DOCS / "measures.md").read_text()
    names = {}
    for title in ("Several settings in one pass", "As torchmetrics"):
        section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
        for block in re.findall(r"```python\n(.*?)```", section, re.S):
            exec(compile(block, "measures.md", "exec"), names)
    assert set(names["narrow"].frame["metric"]) == {"l0", "compression"}
    assert int(names["metric"].count) == 24
    assert names["metric"].compute() > 0


def test_the_house_names_rooms_that_are_there_and_its_arrows_are_those_of_the_contract():
    text = (DOCS / "house.md").read_text()
    rooms = re.findall(r"`([\w/.]+)`", text.partition("## Rooms")[2].partition("## Arrows")[0])
    package = ROOT / "whitebox_probe"
    assert [room for room in rooms if room.endswith("/") and not (package / room).is_dir()] == []
    folders = {p.name for p in package.iterdir() if p.is_dir()} - {"__pycache__", "weights"}
    assert folders <= {room.partition("/")[0] for room in rooms}
    drawn = text.partition("```text\n")[2].partition("```")[0].split()
    config = (ROOT / "setup.cfg").read_text().partition("layers =\n")[2].partition("\n\n")[0]
    assert drawn == config.replace("whitebox_probe.", "").split()


def test_the_checks_that_are_named_are_there():
    page = (DOCS / "how-numbers-are-checked.md").read_text()
    named = set(re.findall(r"`([a-z_/]+\.py)`", page))
    assert len(named) > 30
    assert {path for path in named if not (ROOT / "tests" / path).is_file()} == set()


def test_the_page_of_data_runs():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "data.md").read_text(), re.S)
    assert len(blocks) == 5
    names = {"__name__": "data"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in blocks:
            exec(compile(block, "data.md", "exec"), names)
    assert names["alone"].run["data"]["read with"] == {"windows": "documents"}
