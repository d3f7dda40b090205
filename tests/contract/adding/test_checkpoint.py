"""A checkpoint is one entry, in the project's list or in a user's own."""

import hashlib
from dataclasses import replace

import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_crate
from tests.contract import test_every_checkpoint as contract
from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, RegistryError
from whitebox_probe.cli import main as cli

ENTRY = """
checkpoints:
  mine-small:
    family: crate
    arch: {{image_size: 12, patch_size: 4, channels: 3, classes: 5, dim: 16, depth: 3, heads: 2,
            dim_head: 6, eta: 0.1, lam: 0.1}}
    source: {{kind: path, path: mine.pt}}
    sha256: {sha256}
    size: {size}
    preprocess: {{size: 12, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
    training_data: none, it is random
    licence: MIT
    citation: a test
    reference: https://example.org/mine
    tested: weights
"""


@pytest.fixture
def module():
    return small_crate(eta=0.1, lam=0.1)


@pytest.fixture
def mine(module, tmp_path, monkeypatch):
    """The entry, in a user's own list beside its file."""
    torch.save(module.state_dict(), tmp_path / "mine.pt")
    content = (tmp_path / "mine.pt").read_bytes()
    told = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (tmp_path / "own.yaml").write_text(ENTRY.format(**told))
    monkeypatch.setenv(checkpoints.REGISTRY_VARIABLE, str(tmp_path / "own.yaml"))
    return checkpoints.entry("mine-small")


def test_it_is_loaded_and_probed_by_its_name(mine, module):
    model = wp.load("mine-small")
    assert (model.name, model.entry, model.layers) == ("mine-small", mine, 3)
    state = model.module.state_dict()
    assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())
    result = wp.probe("mine-small", torch.randn(4, 3, 12, 12), ["compression"], progress=False)
    assert result.run["checkpoint"]["sha256"] == mine.sha256
    assert wp.load("mine-small", weights="random").name == "mine-small-random"


def test_the_command_line_lists_and_describes_it(mine, capsys):
    assert cli.main(["list"]) == 0
    row = next(r for r in capsys.readouterr().out.splitlines() if r.startswith("mine-small"))
    assert "here" in row
    assert cli.main(["info", "mine-small"]) == 0
    assert mine.sha256 in capsys.readouterr().out
    assert cli.main(["info", "mine-smal"]) == 2
    assert "Did you mean 'mine-small'" in capsys.readouterr().err


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contracts(mine, check):
    check(mine)


def test_what_is_wrong_with_it_is_told(mine, tmp_path, monkeypatch):
    (tmp_path / "mine.pt").write_bytes(b"changed")
    with pytest.raises(CheckpointError, match="mine"):
        wp.load("mine-small")
    text = (tmp_path / "own.yaml").read_text()
    (tmp_path / "other.yaml").write_text(text.replace("mine-small", "crate-tiny-fmnist"))
    monkeypatch.setenv(checkpoints.REGISTRY_VARIABLE, str(tmp_path / "other.yaml"))
    with pytest.raises(RegistryError, match="'crate-tiny-fmnist' in .* is already in"):
        checkpoints.registry()


def test_an_entry_that_says_too_little_is_noticed(mine):
    with pytest.raises(AssertionError):
        contract.check_words(replace(mine, licence=None))
    with pytest.raises(AssertionError):
        contract.check_file(replace(mine, size=None))
