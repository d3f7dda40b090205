"""Tokenizers of transformers: the files that one is made of, and nothing else.

transformers calls whichever of its classes a tokenizer's folder names, looks there for code, and
reads files at paths that are stated. So it is shown a folder of ours, with the tokenizer's files
and with configurations that can say nothing of the kind.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from whitebox_probe._core.discover import is_class_of
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.gate import (
    Unfit,
    gate,
    is_file,
    parse_json,
    read_mapping,
    read_text,
    size_of,
)
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints import Checkpoint, fetch
from whitebox_probe.data._tokenizer_files import (
    expect_content,
    expect_own_ids,
    expect_stated_ids,
    sound,
)
from whitebox_probe.models.configuration import copy_of, quietly, transformers, unsteered
from whitebox_probe.models.hub import ABSENT, CONFIG, NAME, in_repository

_WHOLE, _STATED = "tokenizer.json", "tokenizer_config.json"
_ADDED = "added_tokens.json"
_BESIDE = ("special_tokens_map.json", _ADDED)
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
    with copy_of(name) as place:
        _fill(place, _finder(name), library)
        found = library.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        for token, number in _stated(place):
            if (given := found.convert_tokens_to_ids(token)) != number:
                raise Unfit(
                    f"its added token '{shown(token, 40)}' has the id {shown(number, 20)} in its "
                    f"files, and {shown(given, 20)} once it is read"
                )
        return found


def _stated(place: Path) -> Iterator[tuple[str, Any]]:
    """The added tokens in a folder's files, and the ids that these give them."""
    if (place / _WHOLE).is_file():
        for each in parse_json(sound(place / _WHOLE)).get("added_tokens") or ():
            yield each.get("content"), each.get("id")
    if (place / _ADDED).is_file():
        yield from read_mapping(place / _ADDED).items()
    if (place / _STATED).is_file():
        listed = read_mapping(place / _STATED).get("added_tokens_decoder") or {}
        for number, each in listed.items():  # `expect_content` has seen them
            yield each["content"], int(number) if number.isdecimal() else number


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

    Raises: Unfit if there is none, it is of a class that is no tokenizer, or of code of its own.
    """
    kinds = _settings(place, find, library)
    names = {file for kind in kinds for file in _files_of(kind)}
    if (rules := find(_WHOLE)) is not None:
        sound(rules)
    names |= {_WHOLE} if rules is not None else set(_FORMS)
    copied = [_copy(file, find, place) for file in sorted(names) if Path(file).name == file]
    if not any(copied) and all(map(_files_of, kinds)):  # those of bytes have none
        raise Unfit("there is no tokenizer; save_pretrained of it writes one")
    for file in _BESIDE:
        if _copy(file, find, place) and file != _ADDED:
            expect_content(read_mapping(place / file))
    if (more := find(_ADDED)) is not None:
        expect_stated_ids(_vocabulary(find), read_mapping(more).items())


def _settings(place: Path, find: Finder, library: Any) -> list[type]:
    """Write what the configurations say, but of code and of other files.

    Returns: the classes that they name.
    Raises: Unfit.
    """
    kinds: list[type | None] = []
    own_code = False
    for file in (CONFIG, _STATED):
        if (found := find(file)) is None:
            continue
        whole = read_mapping(found)
        named = whole.get("auto_map")
        stated = unsteered(whole, _PLACES if file == _STATED else None)
        expect_content(stated)
        own_code |= isinstance(named, Mapping) and "AutoTokenizer" in named
        kinds += _classes(stated, library)
        (place / file).write_text(json.dumps(stated), encoding="utf-8")
    if own_code and (None in kinds or not kinds):
        raise Unfit("it is made by code that comes with it, which is not run")
    return [kind for kind in kinds if kind is not None]


def _vocabulary(find: Finder) -> Any:
    """The ids of tokens as the files have them; None where no text does."""
    if (rules := find(_WHOLE)) is not None:
        return parse_json(sound(rules))["model"].get("vocab")
    if (words := find("vocab.json")) is not None:
        return read_mapping(words)
    if (lines := find("vocab.txt")) is not None:
        ends = read_text(lines).replace("\r\n", "\n").replace("\r", "\n")  # as files are opened
        return {word: at for at, word in enumerate(ends.removesuffix("\n").split("\n"))}
    return None


def _files_of(kind: type) -> set[str]:
    return set(getattr(kind, "vocab_files_names", {}).values())


def _copy(file: str, find: Finder, place: Path) -> bool:
    if (found := find(file)) is None:
        return False
    if size_of(found) > _MOST:
        raise Unfit(f"its {file} has more than {_MOST:,} bytes")
    if file == "vocab.json":
        expect_own_ids(read_mapping(found))
    shutil.copyfile(found, place / file)
    return True


def _classes(stated: Mapping[str, Any], library: Any) -> list[type | None]:
    """The classes of a tokenizer that a file names, by its name and by its model's.

    None among them is one that transformers does not know, in whose place it takes a plain one.

    Raises: Unfit for a class of another kind, which transformers would call all the same.
    """
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    kind = stated.get("model_type")
    usual = TOKENIZER_MAPPING_NAMES.get(kind) if isinstance(kind, str) else None
    several = [usual] if isinstance(usual, str) else list(usual or ())  # a pair in older versions
    made = [_tokenizer_named(name, library) for name in several if name is not None]
    classes = [each for each in made if is_class_of(each, library.PreTrainedTokenizerBase)]
    if (name := stated.get("tokenizer_class")) is None:
        return [*classes]
    if not isinstance(name, str):
        raise Unfit(f"its tokenizer_class {shown(name, 40)} is no name")
    found = _tokenizer_named(name, library)
    if found is not None and not is_class_of(found, library.PreTrainedTokenizerBase):
        lacking = getattr(found, "_backends", None)  # of what stands in for it
        told = f"needs {', '.join(lacking)}, which is not here" if lacking else "is no tokenizer"
        raise Unfit(f"its tokenizer_class {shown(name, 60)} {told}")
    return [*classes, found]


def _tokenizer_named(name: str, library: Any) -> Any:
    """What transformers takes for a tokenizer of that name; None where it takes a plain one."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    with gate(), quietly(library):
        return tokenizer_class_from_name(name)
