"""A Hugging Face dataset by its name or folder: `hf:NAME`, `hf:NAME:SPLIT`, `hf:NAME@CONFIG`."""

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from whitebox_probe._core.errors import DataError, MissingDependency, nearest
from whitebox_probe.data.choices import OF_NAMES, Choices
from whitebox_probe.data.hf_datasets import HfDatasets
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.names import HUB
from whitebox_probe.data.text import TextReader

_SPLIT = re.compile(r"(?P<name>.+?)(?::(?P<split>[A-Za-z_][\w.\[\]%:+-]*))?")


class HubNames(Kind):
    """A data set that the datasets library loads: of the hub, or of a folder on this machine."""

    name = "hf_name"
    words = f"a Hugging Face dataset by name ({HUB}NAME[@CONFIG][:SPLIT])"
    reads = "images"
    by_path = True
    options = OF_NAMES
    exempt = {"not finite": "pixels are whole numbers: a picture of fractions is refused"}

    def takes(self, data: Any) -> bool:
        """Whether it is a text that begins with hf:."""
        return isinstance(data, str) and data.startswith(HUB)

    def expect(self, data: Any) -> None:
        """Check that the library is there.

        Raises: MissingDependency.
        """
        if find_spec("datasets") is None:
            raise MissingDependency(
                f"data '{data}' need the package datasets",
                "it is not installed",
                "Run: pip install whitebox-probe[datasets]",
            )

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The data set, as one that is passed itself."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """The data set, as one that is passed itself."""
        self.expect(data)
        found = _loaded(data, stream=choices.stream)
        opened = HfDatasets().open_as(found, transform, replace(choices, stream=False))
        return replace(opened, name=data.removeprefix(HUB))

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six pictures of one grey each, of two classes, in the library's own folders."""
        import datasets

        shown = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        for what, greys in {"plain": range(6), "other": range(9, 15), "empty": ()}.items():
            images = [Image.new("L", (9, 9), grey) for grey in greys]
            rows = {"image": images, "label": [n % 2 for n in range(len(images))]}
            kinds = {"image": datasets.Image(), "label": datasets.Value("int64")}
            made = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
            made.save_to_disk(str(folder / what))
        if shown:
            datasets.enable_progress_bars()
        found = {what: f"{HUB}{folder / what}" for what in ("plain", "other", "empty")}
        return found | {"wrong type": f"{HUB}{folder / 'nowhere'}"}


def _loaded(data: str, *, stream: bool) -> Any:
    """The data set that a name stands for, or the stream of it.

    Raises: DataError for whatever the library raises, and where a split has to be chosen.
    """
    whole = data.removeprefix(HUB)
    found = _SPLIT.fullmatch(whole)
    if found is None or Path(whole).exists():
        name, split = whole, None
    else:
        name, split = found["name"], found["split"]
    name, _, config = (name, "", "") if Path(name).exists() else name.partition("@")
    import datasets

    try:
        saved = Path(name)
        if any((saved / each).is_file() for each in ("state.json", "dataset_dict.json")):
            made = datasets.load_from_disk(name)
        else:
            made = datasets.load_dataset(name, config or None, streaming=stream)
            # Splits are chosen below, where those that there are can be named.
    except Exception as error:  # the library raises whatever its readers raise
        told = (str(error).strip().splitlines() or [""])[0]
        raise DataError(
            f"the data set '{whole}' cannot be loaded",
            f"{type(error).__name__}: {told}",
            "Check its name (hf:NAME[@CONFIG][:SPLIT]), or load it and pass the Dataset",
        ) from error
    if not isinstance(made, Mapping):
        return _as_stream(made) if stream else made
    splits = list(made)
    if split is None and len(splits) == 1:
        split = splits[0]
    if split not in made:
        raise DataError(
            f"the data set '{whole}' has {len(splits)} splits"
            if split is None
            else f"the data set '{name}' has no split '{split}'",
            f"they are {', '.join(map(str, splits))}",
            f"Choose one: {HUB}{name}:{splits[0]}" if split is None else nearest(split, splits),
        )
    return _as_stream(made[split]) if stream else made[split]


def _as_stream(made: Any) -> Any:
    """A data set as a stream: one of save_to_disk is opened whole."""
    return made.to_iterable_dataset() if hasattr(made, "to_iterable_dataset") else made
