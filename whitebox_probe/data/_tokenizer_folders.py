"""Tokenizers of transformers: the files that one is made of, and nothing else.

transformers calls whichever of its classes a tokenizer's folder names, looks there for code, and
reads files at paths that are stated. So it is shown a folder of ours, with the tokenizer's files
and with configurations that can say nothing of the kind.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whitebox_probe._core.discover import is_class_of
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.gate import Unfit, gate, is_file, read_mapping, size_of
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints import Checkpoint, fetch
from whitebox_probe.data._tokenizer_files import sound
from whitebox_probe.models.configuration import quietly, transformers, unsteered
from whitebox_probe.models.hub import ABSENT, CONFIG, NAME, in_repository

_WHOLE, _STATED = "tokenizer.json", "tokenizer_config.json"
_BESIDE = ("special_tokens_map.json", "added_tokens.json")
_FORMS = (
    *("vocab.json", "merges.txt", "vocab.txt", "vocab.bpe", "bpe.codes", "tekken.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "sentence.bpe.model"),
)
"""What a tokenizer without a `tokenizer.json` is usually made of; its class may name others."""
_MOST = 1 << 28  # bytes of one of them
_PLACES = re.compile(r"_(file|files|path|dir|map|map_file)$|^(chat_template|backend)$")
"""Fields of `tokenizer_config.json` that say where something is, or are of no use here."""

Finder = Callable[[str], Path | None]


def loaded(name: str) -> Any:
    """The tokenizer of a folder that `save_pretrained` wrote, or of a name of the hub.

    Raises: Unfit; MissingDependency.
    """
    library = transformers()
    with tempfile.TemporaryDirectory() as place:
        _fill(Path(place), _finder(name), library)
        with gate(), quietly(library):
            return library.AutoTokenizer.from_pretrained(place, trust_remote_code=False)


def _finder(name: str) -> Finder:
    """What finds a tokenizer's file by its name.

    Raises: Unfit for what is neither a folder nor a name of the hub.
    """
    if Path(name).is_dir():
        return lambda file: path if is_file(path := Path(name) / file) else None
    model, _, revision = name.partition("@")
    if NAME.fullmatch(model) is None or ".." in model:
        raise Unfit("it is neither a folder here nor a name of the Hugging Face hub")

    def of_hub(file: str) -> Path | None:
        source = in_repository(model, file, revision or "main")
        try:
            return fetch(
                Checkpoint(f"{Path(model).name}-tokenizer", "hf", {}, source), progress=False
            )
        except CheckpointError as error:
            if type(error.__cause__).__name__ in ABSENT:
                return None
            raise Unfit(error.why) from error

    return of_hub


def _fill(place: Path, find: Finder, library: Any) -> None:
    """Copy a tokenizer's files to a folder.

    Raises: Unfit if there is none, or it is of a class that is no tokenizer.
    """
    names = {*_FORMS}
    for file in (CONFIG, _STATED):
        if (found := find(file)) is None:
            continue
        stated = unsteered(read_mapping(found))
        if file == _STATED:
            stated = {key: value for key, value in stated.items() if not _PLACES.search(key)}
        names |= _files_of_class(stated.get("tokenizer_class"), library)
        (place / file).write_text(json.dumps(stated), encoding="utf-8")
    if (whole := find(_WHOLE)) is not None:
        sound(whole)
        names = {_WHOLE}
    copied = [_copy(file, find, place) for file in sorted(names)]
    if not any(copied):
        raise Unfit("there is no tokenizer; save_pretrained of it writes one")
    for file in _BESIDE:
        _copy(file, find, place)


def _copy(file: str, find: Finder, place: Path) -> bool:
    if (found := find(file)) is None:
        return False
    if size_of(found) > _MOST:
        raise Unfit(f"its {file} has more than {_MOST:,} bytes")
    shutil.copyfile(found, place / file)
    return True


def _files_of_class(name: Any, library: Any) -> set[str]:
    """The files that a tokenizer's class, if it is known, reads.

    Raises: Unfit for a class of another kind, which transformers would call all the same.
    """
    if name is None:
        return set()
    if not isinstance(name, str):
        raise Unfit(f"its tokenizer_class {shown(name, 40)} is no name")
    with gate():
        from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

        found = tokenizer_class_from_name(name)
    if found is None:  # transformers takes a plain one then
        return set()
    if not is_class_of(found, library.PreTrainedTokenizerBase):
        raise Unfit(f"its tokenizer_class {shown(name, 60)} is no tokenizer that can be made here")
    stated = getattr(found, "vocab_files_names", {}).values()
    return {file for file in stated if Path(file).name == file}
