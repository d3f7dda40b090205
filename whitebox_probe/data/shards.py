"""Shards as webdataset writes them: tar files whose members of one name make a sample.

They are read as they lie, by where each member begins: samples have numbers, so that they can be
drawn, skipped, and shared between processes, and nothing is unpacked. What webdataset's own
pipelines give is a stream, which is read as any other.
"""

import hashlib
import io
import os
import posixpath
import tarfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from whitebox_probe._core.arrays import parse_array
from whitebox_probe._core.errors import DataError
from whitebox_probe._core.gate import Unfit, parse_json, reason
from whitebox_probe.data import _paths, names
from whitebox_probe.data._left_out import LeftOutWarning, in_words
from whitebox_probe.data.choices import OF_SAMPLES, OF_TEXTS, Choices
from whitebox_probe.data.datasets import Datasets
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader, utf8

SUFFIX = ".tar"
_END = 1024
_CHUNK = 1 << 20
_AFAR = ("http://", "https://", "s3://", "gs://", "pipe:")
Place = tuple[int, int, int]
"""Which shard, the first byte, and how many."""
NO_SAMPLE = "with no end to their names"
SYMBOLIC = "symbolic links"
NO_FILE = "that are no files, such as devices"


class Shards(Kind):
    """Tar files (.tar) of samples: `000.jpg`, `000.cls` and `000.json` are one.

    The class is in `.cls`, or in the `label` of `.json`; a text is in `.txt`.
    """

    name = "shards"
    words = f"webdataset shards ({SUFFIX}), such as 'train-{{000..009}}.tar'"
    reads = "images"
    by_path = True
    options = OF_SAMPLES | OF_TEXTS
    exempt = {"not finite": "pixels are whole numbers: a picture of fractions is refused"}

    def takes(self, data: Any) -> bool:
        """Whether it is a path that ends in .tar, or in .tar and a packing; or a list of them."""
        several = isinstance(data, list) and len(data) > 0
        return all(_is_shard(each) for each in (data if several else [data]))

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The samples of all shards, in their order."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """The samples of all shards, in their order; of texts, their windows."""
        self.expect(data)
        several = data if isinstance(data, list) else [data]
        name = Path(several[0]).name + (", ..." if len(several) > 1 else "")
        files = [file for each in several for file in _paths.files_of(Path(each))]
        samples = _Samples(files, name)
        opened = Datasets().open_as(samples, transform, choices)
        if samples.left_out:
            warnings.warn(_warning(samples), stacklevel=2)
        if isinstance(opened.dataset, _Samples):
            return Opened(
                samples,
                name,
                samples.fingerprint,
                left_out=samples.left_out,
                content=samples.content,
            )
        return replace(opened, left_out={**opened.left_out, **samples.left_out})

    def expect(self, data: Any) -> None:
        """Refuse what cannot be read where it lies.

        Raises: DataError.
        """
        if isinstance(data, list):
            for each in data:
                self.expect(each)
            return
        if str(data).startswith(_AFAR):
            raise DataError(
                f"shards at {data} cannot be read",
                "they are not on this machine",
                "Fetch them, or pass webdataset.WebDataset(...), which is read as a stream",
            )
        if not str(data).endswith(SUFFIX):
            raise DataError(
                f"{data} cannot be read as shards",
                "a packed tar can only be read from its beginning",
                "Unpack it to a plain .tar, with gunzip, say",
            )
        _paths.files_of(Path(data))

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six pictures of one grey each, in two shards; one that is a text inside."""
        values = {"plain": range(6), "other": range(100, 150, 8), "empty": (), "wrong": range(5)}
        for what, greys in values.items():
            members = [
                (f"{n}.png", _png(grey, 9 + (what == "other"))) for n, grey in enumerate(greys)
            ]
            if what == "wrong":
                members.append(("5.png", b"no picture"))
            classes = [(name.replace("png", "cls"), b"1") for name, _ in members]
            both = [each for pair in zip(members, classes, strict=True) for each in pair]
            for shard, part in enumerate((both[:6], both[6:])):
                _write(folder / f"{what}-{shard}.tar", part)
        found = {what: folder / f"{what}-{{0..1}}.tar" for what in values}
        return {("wrong type" if what == "wrong" else what): p for what, p in found.items()}


def _is_shard(data: Any) -> bool:
    path = names.path_of(data)
    return path is not None and SUFFIX in path.suffixes[-2:] and not os.path.isdir(str(data))


def _warning(samples: "_Samples") -> LeftOutWarning:
    """What is left out of shards, all in one line."""
    count = sum(map(len, samples.left_out.values()))
    what = f"{count} member{'s are' if count > 1 else ' is'} left out of {samples.called}"
    fix = f"The {len(samples)} samples of the others are measured"
    return LeftOutWarning(what, in_words(samples.left_out), fix)


class _Samples:
    """Samples of shards by their numbers, each a mapping from the ends of names to contents.

    Attributes: left_out: why members are part of no sample -> their names.
    """

    def __init__(self, shards: list[Path], name: str) -> None:
        self.shards = shards
        self.called = name
        self.samples: list[tuple[str, dict[str, Place]]] = []
        self.left_out: dict[str, list[str]] = {}
        digest = hashlib.sha256()
        for number, shard in enumerate(shards):
            for key, members in _members(shard, number, self.left_out).items():
                self.samples.append((key, members))
                sizes = sorted((end, place[2]) for end, place in members.items())
                digest.update(f"{key} {sizes}\n".encode(errors="surrogateescape"))
        self.fingerprint = digest.hexdigest()[:16]
        if not self.samples and self.left_out:
            named, why = self.left_out.get(NO_SAMPLE), in_words(self.left_out)
            if named:
                why = f"'{named[0]}' has none"
            raise DataError(
                f"the shards {name} hold no sample",
                f"a member is a part of a sample by the end of its name, and {why}",
                "Name members KEY.END, such as 000.jpg and 000.cls",
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        key, members = self.samples[number]
        found = {end: self._content(end, place, key) for end, place in members.items()}
        about = found.pop("json", None)
        more = {name: each for name, each in about.items() if name not in found} if about else {}
        return found | more

    def content(self, numbers: Sequence[int]) -> str:
        """Hash of the bytes of these samples: names and sizes are in the fingerprint.

        Raises: DataError.
        """
        digest = hashlib.sha256()
        places = [place for number in numbers for place in self.samples[number][1].values()]
        for shard, several in groupby(places, key=lambda place: place[0]):
            path = self.shards[shard]
            try:
                with path.open("rb") as file:
                    for _, start, size in several:
                        file.seek(start)
                        digest.update(file.read(size))
            except OSError as error:
                raise DataError(
                    f"the shard {path} cannot be read", reason(error), "Fetch it again"
                ) from error
        return digest.hexdigest()[:16]

    def _content(self, end: str, place: Place, key: str) -> Any:
        """What a member holds.

        Raises: DataError where it is cut off, or is not what its name says.
        """
        shard, start, size = place
        what = f"{self.shards[shard].name}: {key}.{end}"
        try:
            with self.shards[shard].open("rb") as file:
                file.seek(start)
                content = file.read(size)
            if len(content) < size:
                raise ValueError("the shard ends before it")
            return _decoded(end.rpartition(".")[2], content)
        except (OSError, ValueError, Unfit) as error:
            raise DataError(
                f"{what} cannot be read", reason(error), "Mend or leave out the sample"
            ) from error


def _decoded(end: str, content: bytes) -> Any:
    if end in ("cls", "index"):
        return int(utf8(content))
    if end in ("txt", "text"):
        return utf8(content)
    if end == "json":
        found = parse_json(utf8(content))
        return found if isinstance(found, dict) else {}
    if end == "npy":
        return parse_array(content)
    return content


def _members(
    shard: Path, number: int, left_out: dict[str, list[str]]
) -> dict[str, dict[str, Place]]:
    """The samples of a shard: key -> end of a name -> where its content lies.

    A hard link, as tar writes one for a file that it met before under another name, is the file
    that it names. Folders, and what hidden files and macOS leave, are passed over in silence.

    Args: left_out: why members are part of no sample -> their names; it is added to.

    Raises: DataError for what is no tar, is cut off, or says two things of one name.
    """
    found: dict[str, dict[str, Place]] = {}
    files: dict[str, tarfile.TarInfo | None] = {}  # by their paths; None: no file, as a device
    named: dict[tuple[str, str], str] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, file = member.name.rpartition("/")
                stem, dot, end = file.partition(".")
                if member.isdir():
                    continue
                content = _content_of(member, files, shard)
                files[_plain(member.name)] = content
                if (dot and not stem) or "__MACOSX" in folder.split("/"):
                    continue
                if content is None or not dot:
                    sort = SYMBOLIC if member.issym() or member.islnk() else NO_FILE
                    why = NO_SAMPLE if content is not None else sort
                    left_out.setdefault(why, []).append(member.name)
                    continue
                key, end = f"{folder}/{stem}".lstrip("/"), end.lower()
                part = _plain(key), end
                if part in named:
                    raise _twice(shard, named[part], member.name)
                named[part] = member.name
                _expect_whole(content, shard)
                place = (number, content.offset_data, content.size)
                found.setdefault(key, {})[end] = place
            last = tar.offset
        _expect_end(shard, last)  # tarfile ends without a word where a file is cut off or damaged
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            f"the shard {shard} cannot be read",
            (str(error).splitlines() or [type(error).__name__])[0],
            "Fetch it again, or leave it out",
        ) from error
    return found


def _plain(name: str) -> str:
    """The path that a member is unpacked to."""
    return posixpath.normpath(name.lstrip("/"))


def _content_of(
    member: tarfile.TarInfo, files: Mapping[str, tarfile.TarInfo | None], shard: Path
) -> tarfile.TarInfo | None:
    """The member whose content it has: itself, or that which a hard link names; None for no file.

    Raises: DataError for a link to what is not in the shard, or stands behind it.
    """
    if not member.islnk():
        return member if member.isreg() else None
    if _plain(member.linkname) not in files:
        raise DataError(
            f"'{member.name}' of the shard {shard} cannot be read",
            f"it is a hard link to '{member.linkname}', which does not stand before it",
            "Write the shard again with all its files, or with tar --hard-dereference",
        )
    return files[_plain(member.linkname)]


def _expect_whole(content: tarfile.TarInfo, shard: Path) -> None:
    """Refuse a sparse file: what lies in the shard is a map of its parts, and not its content.

    Raises: DataError.
    """
    if content.issparse():
        raise DataError(
            f"'{content.name}' of the shard {shard} cannot be read",
            "it is packed as a sparse file, whose bytes do not lie there as they are",
            "Write the shard without --sparse (-S)",
        )


def _twice(shard: Path, first: str, second: str) -> DataError:
    return DataError(
        f"the shard {shard} cannot be read",
        f"'{second}' stands there twice"
        if first == second
        else f"'{first}' and '{second}' are one part of one sample",
        "Write it again with each once: which of them is meant is not known",
    )


def _expect_end(shard: Path, end: int) -> None:
    """Check that a tar has its end mark, two empty blocks, behind its last member.

    Raises: OSError.
    """
    with shard.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END))
        if size < end + _END or any(file.read()):
            raise OSError("it is cut off, or damaged: the mark of its end is missing")
        file.seek(end)
        if any(file.read(_END)):
            raise OSError(f"at byte {end:,} there is neither a member nor the mark of the end")
        while more := file.read(_CHUNK):
            if any(more):
                raise OSError("it goes on behind the mark of its end, as two shards in one file do")


def _png(grey: int, size: int) -> bytes:
    held = io.BytesIO()
    Image.new("L", (size, 9), grey).save(held, "PNG")
    return held.getvalue()


def _write(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
