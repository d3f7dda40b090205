"""The options that say which data, and how they are read: what `run` and `audit` share."""

import argparse
from typing import TYPE_CHECKING, Any

from whitebox_probe.cli import _completing, _options, _shared

if TYPE_CHECKING:
    from whitebox_probe.data.given import Data

_SIGNS = {"\\n": "\n", "\\t": "\t", "\\r": "\r"}
_CHOICES = ("column", "label", "separator", "windows", "pixels", "stream")


def add_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add what says which data, and what they do not say themselves."""
    group = parser.add_argument_group("the data")
    add = group.add_argument
    data = add(
        "--data",
        type=_shared.name_or_path,
        default="fashion-mnist",
        help="name (whitebox-probe list --data); folder of images; file, or pattern of files, of "
        "images, texts (.txt), arrays (.npy, .npz) or webdataset shards (.tar), as "
        "'train-{000..009}.tar'; or hf:NAME[@CONFIG][:SPLIT]",
    )
    _completing.by(data, "data", files=True)
    add("--column", metavar="NAME", help="key or column of the images, texts or ids")
    add("--label", metavar="NAME", help="key or column of the classes")
    add(
        "--separator",
        metavar="TEXT",
        help=r"what stands between the documents of a text, such as '\n\n' or '<|endoftext|>'",
    )
    add(
        "--windows",
        choices=("packed", "documents"),
        default="packed",
        help="of texts: packed into full windows, or one window a document, cut off or padded",
    )
    add(
        "--pixels",
        action="store_true",
        help="fractions of an array are pixels from 0 to 1, to be prepared, and not inputs",
    )
    add(
        "--stream",
        action="store_true",
        help="read hf:NAME in its order while it comes, and do not fetch it whole; a run of it "
        "cannot be gone on with",
    )
    _options.add_settings(group, "limit")
    return group


def given(args: argparse.Namespace) -> "str | Data":
    """What the options say, checked before a model is loaded.

    Raises: ProbeError.
    """
    from whitebox_probe.data.given import data

    said: dict[str, Any] = {name: getattr(args, name) for name in _CHOICES}
    if said["separator"] is not None:
        for sign, meant in _SIGNS.items():
            said["separator"] = said["separator"].replace(sign, meant)
    found = data(args.data, **said)
    name: str = args.data
    return found if found.choices.given() else name
