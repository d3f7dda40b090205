"""A text file, or a text that is cut into windows already."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _documents, _paths, _prepared, names
from whitebox_probe.data._reading import Reading
from whitebox_probe.data.choices import Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import SUFFIX, TextReader, TextWindows, read_text


class Texts(Kind):
    """A UTF-8 file that ends in .txt, in windows of the model's tokens; or `TextWindows`."""

    name = "text"
    words = f"a text file ({SUFFIX})"
    options = frozenset({"separator", "windows"})
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
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """Windows of files, divided into documents at the separator; each file ends one.

        Raises: DataError where one window a document is asked for, and nothing says where it ends.
        """
        if isinstance(data, TextWindows):
            choices.expect(frozenset(), "TextWindows, which are cut already")
            return Opened(data, data.name, data.fingerprint)
        path = Path(data)
        is_plain = not choices.given()
        files = [path] if is_plain and not path.is_file() and not _is_pattern(path) else None
        files = _paths.files_of(path) if files is None else files
        if len(files) == 1 and choices.windows == "packed":
            return _prepared.text_windows(files[0], path.name, transform)
        if len(files) == 1 and choices.separator is None:
            raise DataError(
                f"where the documents of {path} end is not known",
                "one window a document is asked for",
                r"Say what stands between them: separator='\n\n', or --separator '\n\n'",
            )
        texts = [read_text(file)[1] for file in files]
        if choices.separator is not None and choices.windows == "documents":
            texts = _documents.parted(texts, choices.separator, path.name)
        return _documents.joined(texts, path.name, Reading(transform, choices))

    def expect(self, data: Any) -> None:
        """Check that a file is there.

        Raises: DataError.
        """
        if isinstance(data, str | Path):
            _paths.files_of(Path(data))

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


def _is_pattern(path: Path) -> bool:
    return any(sign in str(path) for sign in "*?[{")
