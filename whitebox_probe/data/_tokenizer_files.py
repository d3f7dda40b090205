"""Files of the tokenizers library, tried in a process of their own before they are read here.

The library is of Rust, and some files end the process that reads them: with an allocation of
gigabytes, or a check that fails. What it says of the others is no error of Python's either.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from whitebox_probe._core.arguments import is_whole
from whitebox_probe._core.gate import Unfit, expect, gate, parse_json, read_text, size_of
from whitebox_probe._core.lines import shown

SECONDS, BYTES = 30, 1 << 33
"""What a file may take in a process of its own."""
_LONGER = 64
"""How many times longer its rules of replacing may make a text."""
_IDS = 1 << 32
"""What an id is below: of one that is not the library takes what is left over."""
_OWN = Path(__file__).resolve().parents[1] / "weights"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "added_tokens": {"type": ["array", "null"], "items": {"type": "object"}},
        "normalizer": {"type": ["object", "null"]},
        "pre_tokenizer": {"type": ["object", "null"]},
        "post_processor": {"type": ["object", "null"]},
        "decoder": {"type": ["object", "null"]},
        "model": {"type": "object"},
    },
    "required": ["model"],
}
# `sys.path` begins with the folder at hand, where a file could stand for the library.
_TRIAL = """
import sys
sys.path[:] = [place for place in sys.path if place]
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass
import tokenizers
text = sys.stdin.buffer.read().decode("utf-8")
try:
    found = tokenizers.Tokenizer.from_str(text)
    for sample in ("a", "White box, 12 \\u00e9\\u4e2d\\n\\tx " * 50, ""):
        for framed in (False, True):
            ids = found.encode(sample, add_special_tokens=framed).ids
            [(found.decode([i], False), found.id_to_token(i)) for i in ids[:100]]
except Exception as error:
    print(str(error)[:300])
"""


def sound(path: Path) -> str:
    """The text of a file that the library can read, without what it pads and cuts texts to.

    Raises: Unfit.
    """
    try:
        size_of(path)
        told = path.resolve().stat()
    except OSError as error:
        raise Unfit(str(error.strerror)) from error
    return _sound(path.resolve(), told.st_mtime_ns, told.st_size)


@lru_cache(maxsize=8)
def _sound(path: Path, _changed: int, _size: int) -> str:
    text = read_text(path)
    whole = parse_json(text)
    expect(_SCHEMA, whole)
    vocabulary = whole["model"].get("vocab")
    expect_own_ids(vocabulary)
    added = whole.get("added_tokens") or ()
    expect_stated_ids(vocabulary, [(each.get("content"), each.get("id")) for each in added])
    if growth(whole.get("normalizer")) > _LONGER:
        raise Unfit("its normalizer makes texts many times longer")
    whole["padding"] = whole["truncation"] = None
    text = json.dumps(whole, ensure_ascii=False)
    if _OWN not in path.parents:
        _try(text)
    return text


def expect_own_ids(vocabulary: Any) -> None:
    """Refuse a vocabulary in which a token has no id, or one that is another's: it was damaged.

    Raises: Unfit.
    """
    if not isinstance(vocabulary, dict):
        return  # of a unigram model: their order numbers them
    for token, number in vocabulary.items():  # of another kind the library forgets the token
        if not is_whole(number) or not 0 <= number < _IDS:
            raise Unfit(f"its token '{shown(token, 40)}' has the id {shown(number, 40)}")
    if len(set(vocabulary.values())) < len(vocabulary):
        raise Unfit("two of its tokens have one id")


def expect_stated_ids(vocabulary: Any, added: Iterable[tuple[Any, Any]]) -> None:
    """Refuse a token that is added with another id than the vocabulary has, or with another's.

    The library would take one of the two, in silence, and cut other texts by it.

    Args: added: tokens and their ids.
    Raises: Unfit.
    """
    if not isinstance(vocabulary, dict):
        return
    owners = {number: token for token, number in vocabulary.items()}
    for token, number in added:
        known = vocabulary.get(token) if isinstance(token, str) else None
        if known is not None and known != number:
            raise Unfit(
                f"its added token '{shown(token, 40)}' has the id {shown(number, 20)}, and in its "
                f"vocabulary {shown(known, 20)}"
            )
        if known is None and isinstance(number, int) and number in owners:
            raise Unfit(
                f"its added token '{shown(token, 40)}' has the id {shown(number, 20)}, which its "
                f"vocabulary has for '{shown(owners[number], 40)}'"
            )


def expect_content(settings: Mapping[str, Any]) -> None:
    """Refuse special tokens that are described without their text: the library forgets them.

    Raises: Unfit.
    """
    listed = settings.get("added_tokens_decoder") or {}
    if not isinstance(listed, Mapping):
        raise Unfit("its added_tokens_decoder is no table of tokens by their ids")
    described = {f"token {key}": value for key, value in listed.items()}
    described |= {
        key: value
        for key, value in settings.items()
        if key.endswith("_token") and isinstance(value, Mapping)
    }
    for name, value in described.items():
        if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
            raise Unfit(f"its {shown(name, 40)} has no content")


def growth(rule: Any) -> float:
    """How many times longer a text becomes by a rule, or by several, at most."""
    if not isinstance(rule, dict):
        return 1.0
    found = 1.0
    several = rule.get("normalizers")
    for part in several if isinstance(several, list) else ():
        found *= growth(part)
    content = rule.get("content", rule.get("prepend"))
    pattern = rule.get("pattern")
    replaced = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(content, str):
        found *= max(1.0, len(content) / max(1, len(replaced) if isinstance(replaced, str) else 1))
    return found


def _try(text: str) -> None:
    """Read a file, and some text by it, in another process.

    Raises: Unfit for one that ends it, takes too long, or is refused there.
    """
    with gate():
        try:
            done = subprocess.run(
                [sys.executable, "-c", _TRIAL, str(BYTES)],
                input=text.encode("utf-8"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"},
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unfit(f"the tokenizers library does not end with it in {SECONDS} s") from error
    if done.returncode:
        raise Unfit("the tokenizers library breaks off over it")
    if done.stdout.strip():
        raise Unfit(shown(done.stdout.decode("utf-8", "replace").strip(), 160))
