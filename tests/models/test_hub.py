"""Which files of a repository on the hub are fetched: one of the forms, and all shards of it."""

import json
from dataclasses import dataclass, field

import pytest

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models import hub

SHARDS = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
ENTRY = checkpoints.Checkpoint(
    "x", "hf", {}, {"kind": "huggingface", "repo": "a/b", "file": hub.WEIGHTS, "revision": "r"}
)


class EntryNotFoundError(Exception):
    """As huggingface_hub calls it."""


@dataclass
class Hub:
    """A repository that holds some files; what was asked of it."""

    place: object
    held: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def fetch(self, entry, *, progress):
        name = entry.source["file"]
        self.asked.append(name)
        assert entry.source["revision"] == "r"
        if name not in self.held:
            raise CheckpointError("gone", "it is not there", "none") from EntryNotFoundError()
        path = self.place / name
        path.write_text(self.held[name])
        return path


@pytest.fixture
def repository(tmp_path, monkeypatch):
    made = Hub(tmp_path)
    monkeypatch.setattr(checkpoints, "fetch", made.fetch)
    monkeypatch.setattr(checkpoints, "locate", lambda _: None)
    return made


def test_every_shard_of_an_index_is_fetched(repository):
    index = hub.WEIGHTS + ".index.json"
    repository.held = {name: "" for name in SHARDS.values()}
    repository.held[index] = json.dumps({"weight_map": SHARDS})
    assert hub.fetched(ENTRY, progress=False) == repository.place / index
    assert repository.asked == [hub.WEIGHTS, index, *SHARDS.values()]


def test_a_shard_that_lacks_is_told(repository):
    repository.held = {hub.WEIGHTS + ".index.json": json.dumps({"weight_map": SHARDS})}
    with pytest.raises(CheckpointError, match="gone"):
        hub.fetched(ENTRY, progress=False)


def test_the_first_form_that_is_there_is_taken_and_none_is_told(repository):
    repository.held = {"pytorch_model.bin": ""}
    assert hub.fetched(ENTRY, progress=False).name == "pytorch_model.bin"
    repository.held, repository.asked = {}, []
    with pytest.raises(CheckpointError, match="gone"):
        hub.fetched(ENTRY, progress=False)
    assert repository.asked == list(hub.FORMS)


def test_another_error_ends_the_search(repository, monkeypatch):
    def refused(entry, *, progress):
        repository.asked.append(entry.source["file"])
        raise CheckpointError("closed", "a token is asked for", "none") from PermissionError()

    monkeypatch.setattr(checkpoints, "fetch", refused)
    with pytest.raises(CheckpointError, match="closed"):
        hub.fetched(ENTRY, progress=False)
    assert len(repository.asked) == 1
