"""The named data sets: each is a file of this folder, or of another package.

Such a file has `NAMES` (name -> what it is), `read(name)` -> images (N, H, W) or (N, H, W, 3) of
bytes and labels (N,), or a text, and `about(name)` -> facts. It may have `EXEMPT` (name -> why the
contracts cannot be tried on it).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import whitebox_probe.data as rooms
from whitebox_probe._core import discover
from whitebox_probe.data import _digest, _documents, _prepared
from whitebox_probe.data._reading import Reading
from whitebox_probe.data.choices import Choices
from whitebox_probe.data.images import ImageArray, Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader

HUB = "hf:"
"""Begins the name of a data set of the Hugging Face hub."""


@cache
def readers() -> dict[str, Any]:
    """Name -> the file of this folder that reads it."""
    found: dict[str, Any] = {}
    for module in discover.modules(rooms):
        for name in getattr(module, "NAMES", {}):
            discover.unique(found, name, module)
    return found


def names() -> dict[str, str]:
    """Name -> what it is."""
    return {name: module.NAMES[name] for name, module in readers().items()}


def path_of(data: Any) -> Path | None:
    """Data that are given by a path, as a path; a name is none, whatever lies there."""
    if isinstance(data, Path):
        return data
    is_path = isinstance(data, str) and data != "" and data not in readers()
    is_path = is_path and not data.startswith(HUB)
    return Path(data) if is_path else None


class Names(Kind):
    """Data sets that have a name: those of this folder, or those of `others`.

    The fingerprint of images hashes their pixels, not their labels.
    """

    name = "name"
    words = "the name of a data set"
    reads = "either"
    by_path = True
    options = frozenset({"separator", "windows"})
    exempt = {
        "other": "a name stands for one content",
        "empty": "no data set without samples has a name",
        "not finite": "its samples are bytes or ids of tokens",
        "wrong type": "what is no name is not taken",
    }

    def __init__(self, others: Mapping[str, Any] | None = None) -> None:
        self._others = others

    @property
    def readers(self) -> Mapping[str, Any]:
        """Name -> the file that reads it."""
        return readers() if self._others is None else self._others

    def takes(self, data: Any) -> bool:
        """Whether it is one of the names."""
        return isinstance(data, str) and data in self.readers

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The images that its file reads, or windows of the text."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """The images that its file reads, or windows of the text, whose lines may be documents."""
        content = self.readers[data].read(data)
        if isinstance(content, str) and choices.windows == "documents":
            texts = _documents.parted([content], choices.separator or _documents.LINE, data)
            return _documents.joined(texts, data, Reading(transform, choices))
        if isinstance(content, str):
            return _prepared.text_windows(content, data, transform)
        choices.expect(frozenset(), f"the images of {data}")
        images, labels = content
        dataset = ImageArray(images, labels, _prepared.for_images(transform, data))
        return Opened(
            dataset,
            data,
            _digest.of_array(images),
            identify=dataset.identify,
            classify=dataset.classify,
        )

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """What the demo runs on."""
        return {"plain": "fashion-mnist"}
