"""A text file, or a text that is cut into windows already."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whitebox_probe.data import _prepared, names
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import SUFFIX, TextReader, TextWindows


class Texts(Kind):
    """A UTF-8 file that ends in .txt, in windows of the model's tokens; or `TextWindows`."""

    name = "text"
    words = f"a text file ({SUFFIX})"
    reads = "text"
    by_path = True
    exempt = {"not finite": "its samples are whole numbers, the ids of tokens"}

    def takes(self, data: Any) -> bool:
        """Whether it is `TextWindows`, or a path that ends in .txt and is no folder."""
        path = names.path_of(data)
        is_file = path is not None and path.suffix == SUFFIX and not os.path.isdir(path)
        return is_file or isinstance(data, TextWindows)

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """Windows of a file, by the model's own tokenizer; `TextWindows` as they are."""
        if isinstance(data, TextWindows):
            return Opened(data, data.name, data.fingerprint)
        return _prepared.text_windows(Path(data), Path(data).name, transform)

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Files of a few lines; the wrong one is not UTF-8."""
        contents = {
            "plain": b"a layer compresses its tokens\n" * 8,
            "other": b"a layer makes its tokens sparse\n" * 8,
            "empty": b"",
            "wrong type": b"\xff\xfe\x00" * 80,
        }
        for what, content in contents.items():
            (folder / f"{what}{SUFFIX}").write_bytes(content)
        return {what: folder / f"{what}{SUFFIX}" for what in contents}
