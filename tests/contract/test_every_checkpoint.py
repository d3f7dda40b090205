"""What holds for each entry of checkpoints.yaml, found unaided; no contract has an exception.

What a user's own list need not say, the project's list must: licence, citation, data.
"""

import re

import pytest
import torch

from whitebox_probe import checkpoints
from whitebox_probe.checkpoints._schema import SOURCES
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.registry import build, families

ENTRIES = checkpoints.registry()
ARCHITECTURES = checkpoints.architectures()


def check_words(entry):
    """It says what a paper needs."""
    assert entry.source["kind"] in SOURCES
    assert all([entry.training_data, entry.licence, entry.citation, entry.reference])
    assert entry.tested in ("weights", "format")
    assert entry.reference.startswith("https://")


def check_file(entry):
    """A file that was run here, or comes with the package, is known by its hash."""
    if entry.tested == "weights":
        assert re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert entry.size
    if entry.source["kind"] == "packaged":
        assert checkpoints.fetch(entry).stat().st_size == entry.size
    if entry.source["kind"] == "hand":
        assert entry.note, "say how a user gets the file"


def built(family, arch, name):
    """Its network, without any memory, read as its family says."""
    assert family in families()
    if family == "hf":
        pytest.importorskip("transformers")
    with torch.device("meta"):
        module = build(family, arch, source=name)
    return ProbeModel(module, families()[family].anatomy, name)


def check_network(entry):
    """It is built from its arguments, and every layer has subspaces of the sizes that it says."""
    model = built(entry.family, entry.arch, entry.name)
    d = model.dims
    for layer in (1, model.layers):
        shape = tuple(model.subspaces(layer).shape)
        assert shape == (d.heads, d.dim, d.dim_head)


def check_preprocessing(entry):
    """Whatever is read is prepared in a way that somebody states: the entry, or its library."""
    own = entry.source["kind"] in ("timm", "huggingface")
    assert entry.preprocess or own
    if {"mean", "std"} <= set(entry.preprocess):
        channels = 1 if entry.preprocess.get("mode") == "L" else 3
        assert len(entry.preprocess["mean"]) == len(entry.preprocess["std"]) == channels


def check_figures(entry):
    """Whoever reports a number is named, and the number has a place."""
    for each in (*entry.accuracy, *entry.loss):
        assert each["source"].strip()
        assert each["dataset"]
        assert each["split"]
    assert not (entry.accuracy and entry.loss)


CHECKS = (check_words, check_file, check_network, check_preprocessing, check_figures)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ENTRIES)
def test_it_keeps_the_contract(name, check):
    assert ENTRIES[name].name == name
    check(ENTRIES[name])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_built_and_read(name):
    family, arch = ARCHITECTURES[name]
    assert built(family, arch, name).layers >= 1


def test_no_two_entries_are_one_file():
    hashes = [entry.sha256 for entry in ENTRIES.values() if entry.sha256]
    assert len(set(hashes)) == len(hashes)
