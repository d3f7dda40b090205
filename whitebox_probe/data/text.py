"""Text as windows of token ids, for models that read text."""

import codecs
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from whitebox_probe._core.errors import DataError, MissingDependency
from whitebox_probe._core.gate import Unfit, gate, size_of
from whitebox_probe._core.memory import available
from whitebox_probe.data._tokenizer_files import sound
from whitebox_probe.data._tokenizer_folders import loaded

BYTES = "bytes"
SUFFIX = ".txt"
_TIMES = 8
"""How many times a text's bytes its ids take at least, of 64 bits and as Python's numbers."""


@dataclass(frozen=True)
class Tokenizer:
    """What `TextWindows` needs of a tokenizer.

    Attributes:
        name: what it is called. encode: text -> ids, without special tokens around them.
        before, after: the special tokens that frame one sequence, such as [CLS] and [SEP].
        special: every special token's id. pad: the id that fills a window up.
        word: what an id stands for, as it would be read.
    """

    name: str
    encode: Callable[[str], list[int]]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    special: frozenset[int] = frozenset()
    pad: int = 0
    word: Callable[[int], str] = str


@dataclass(frozen=True)
class TextReader:
    """How a text becomes a model's input: its tokenizer, and the tokens in a window."""

    tokenizer: str
    length: int

    def windows(self, text: str | Path) -> "TextWindows":
        """The full windows of a text or a file, each framed by its special tokens.

        What does not fill the last window is left out: no window holds padding, which an encoder's
        tokens would attend to, and all have the same number of tokens, which a rate depends on.
        """
        return TextWindows(text, self.tokenizer, self.length, drop_last=True)


class Window(NamedTuple):
    """A window's ids (n,), and which of them are measured (n,): a pair whose parts have names."""

    input_ids: Tensor
    mask: Tensor


class TextWindows(Dataset[tuple[Tensor, Tensor]]):
    r"""A text cut into windows of n tokens that do not overlap.

    Sample i is `(ids, mask)`: `ids` (n,) of int64 is a model's input; `mask` (n,) of bool is True
    for the tokens of the text, and False for padding (at the end of the last window only) and for
    special tokens, whether the frame added them or the text holds them; a word that the tokenizer
    does not know is text. As a data set of pairs it can be given to `wp.probe` as it is, which then
    measures the tokens where `mask` is True. A model is given no padding mask, so that an encoder's
    tokens would attend to padding: with `drop_last` no window has any.

    Args:
        text: a path, a string that ends in `.txt` (a path too), or the text itself. Files are
            UTF-8, whose byte order mark is no text.
        tokenizer: `bytes` (ids are the bytes of the UTF-8 text, 0 to 255), the path of a JSON file
            of the tokenizers library, or a name or folder for transformers' AutoTokenizer.
        length: n, the tokens in a window, its frame included.
        frame: put the tokenizer's special tokens around each window, as around a sentence: BERT's
            [CLS] and [SEP], Llama's <s>, none for GPT-2 and `bytes`.
        drop_last: leave out the last window if it is not full.

    Attributes:
        fingerprint: hash of ids, masks and window length, the same for the same windows.
        name: what a table calls the data.
    Raises: DataError for a file that is not there or not UTF-8, a tokenizer that cannot be had, a
        window that has no room, or a text without tokens; MissingDependency.

    Example:
        >>> data = TextWindows("whitebox", "bytes", 5)
        >>> len(data), bytes(data[1][0].tolist()), data[1][1].tolist()
        (2, b'box\x00\x00', [True, True, True, False, False])
    """

    def __init__(
        self,
        text: str | Path,
        tokenizer: str | Path = BYTES,
        length: int = 128,
        *,
        frame: bool = True,
        drop_last: bool = False,
    ) -> None:
        self.name, content = read_text(text)
        found = open_tokenizer(tokenizer)
        before, after = (found.before, found.after) if frame else ((), ())
        room = length - len(before) - len(after)
        if room < 1:
            raise DataError(
                f"a window of {length} tokens has no room for text",
                f"{len(before) + len(after)} of them are special tokens",
                "Use longer windows",
            )
        ids = torch.tensor(found.encode(content), dtype=torch.int64)
        count = len(ids) // room if drop_last else -(-len(ids) // room)
        if count == 0:
            raise DataError(
                f"{self.name} gives no window of {length} tokens",
                f"it has {len(ids)}",
                "Pass more text, or use shorter windows",
            )
        kept = min(count * room, len(ids))
        special = torch.tensor(sorted(found.special), dtype=torch.int64)
        real = torch.zeros(count * room, dtype=torch.bool)
        real[:kept] = ~torch.isin(ids[:kept], special)
        filled = torch.full((count * room,), found.pad, dtype=torch.int64)
        filled[:kept] = ids[:kept]
        self.ids = _framed(filled.view(count, room), before, after, kept - (count - 1) * room)
        # A special token of the frame is no text, wherever it stands.
        self.mask = torch.zeros_like(self.ids, dtype=torch.bool)
        self.mask[:, len(before) : len(before) + room] = real.view(count, room)
        self.tokenizer = found.name
        digest = hashlib.sha256(str(tuple(self.ids.shape)).encode())
        for part in (self.ids, self.mask):
            digest.update(part.numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Window:
        """The ids and the mask of a window."""
        return Window(self.ids[index], self.mask[index])


def _framed(windows: Tensor, before: tuple[int, ...], after: tuple[int, ...], last: int) -> Tensor:
    """Special tokens around each window; in the last one, of `last` tokens, before its padding."""
    count, room = windows.shape
    left = torch.tensor(before, dtype=torch.int64).expand(count, -1)
    right = torch.tensor(after, dtype=torch.int64).expand(count, -1)
    framed = torch.cat([left, windows, right], dim=1)
    if after and last < room:
        end = len(before) + last
        padding = windows[-1, last:].clone()
        framed[-1, end : end + len(after)] = right[-1]
        framed[-1, end + len(after) :] = padding
    return framed


def read_text(text: str | Path) -> tuple[str, str]:
    """The name and the content of a text that is given by its path or as it is.

    Line ends of a file are those of any system.
    """
    if isinstance(text, str) and not (text.endswith(SUFFIX) and "\n" not in text):
        return f"text of {len(text)} characters", text
    path = Path(text)
    try:
        size = size_of(path)
    except Unfit as why:
        raise DataError(f"the text file {path} cannot be read", str(why), "Check the path") from why
    if _TIMES * size > (there := available()):
        raise DataError(
            f"the text file {path} does not fit into memory",
            f"it has {size:,} bytes; as tokens it takes {_TIMES} times as many, and there are "
            f"{there:,}",
            "Cut it into several files, and measure some of them",
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the text file {path} cannot be read", str(error.strerror), "Check the path"
        ) from error
    try:
        return path.name, utf8(content).replace("\r\n", "\n")
    except Unfit as why:
        raise DataError(
            f"the text file {path} cannot be read",
            str(why),
            f"Convert it, for example with: iconv -f {_likely(content)} -t UTF-8",
        ) from why


def utf8(content: bytes) -> str:
    """The text of a document, without the mark that editors put before it (a byte order mark).

    Raises: Unfit for bytes that are no UTF-8, or read as such hold NUL characters.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unfit(f"it is not UTF-8: byte {error.start} does not fit") from error
    if "\0" in text:
        raise Unfit("it holds NUL characters: it is likely UTF-16, and not UTF-8")
    return text


def _likely(content: bytes) -> str:
    """The encoding of what is no UTF-8, as far as its first bytes tell."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    at = content.find(b"\0")
    return "LATIN1" if at < 0 else "UTF-16LE" if at % 2 else "UTF-16BE"


def open_tokenizer(tokenizer: str | Path) -> Tokenizer:
    """The tokenizer of that name: `bytes`, a JSON file, or one of transformers.

    Raises: DataError if it cannot be had; MissingDependency.
    """
    if tokenizer == BYTES:
        return Tokenizer(
            BYTES,
            lambda text: list(text.encode("utf-8")),
            word=lambda i: bytes([i]).decode("latin-1") if i < 256 else str(i),
        )
    if str(tokenizer).endswith(".json"):
        return _of_file(Path(tokenizer))
    return _of_transformers(str(tokenizer))


def _missing(library: str, error: ImportError) -> MissingDependency:
    return MissingDependency(
        f"this tokenizer needs {library}", str(error), "Run: pip install 'whitebox-probe[text]'"
    )


def _unusable(tokenizer: str, why: object) -> DataError:
    return DataError(
        f"the tokenizer '{tokenizer}' cannot be had",
        (str(why) or "no reason was given").strip().splitlines()[0],
        "Use 'bytes', a tokenizer.json, or a name such as openai-community/gpt2",
    )


def _of_file(path: Path) -> Tokenizer:
    try:
        import tokenizers
    except ImportError as error:
        raise _missing("tokenizers", error) from error
    try:
        content = sound(path)
        with gate():
            found = tokenizers.Tokenizer.from_str(content)
            _draw_nothing(found)
    except Unfit as why:
        raise _unusable(str(path), why) from why

    def encode(text: str, *, framed: bool = False) -> list[int]:
        try:
            with gate():
                return list(found.encode(text, add_special_tokens=framed).ids)
        except Unfit as why:
            error = why.__cause__
            if not isinstance(error, TypeError | UnicodeEncodeError):
                raise _unusable(str(path), why) from why
            raise DataError(
                "a text cannot be made tokens",
                "it holds half of a surrogate pair, which is no character",
                "Read its file as UTF-8, and replace what is not",
            ) from error

    unknown = getattr(found.model, "unk_token", None)
    added = found.get_added_tokens_decoder().items()
    special = {i for i, token in added if token.special and token.content != unknown}
    pads = [i for i in special if "pad" in str(found.id_to_token(i)).lower()]
    pad = pads[0] if pads else None
    return _assembled(path.name, encode, special, pad, lambda i: str(found.decode([i], False)))


def _draw_nothing(tokenizer: Any) -> None:
    """Switch off what makes a text other tokens each time: a means of training, not of measuring.

    BPE drops merges (`dropout`); a unigram model draws among segmentations (`alpha`, and
    SentencePiece's `enable_sampling`).
    """
    model = getattr(tokenizer, "model", None)
    # Classes of transformers name the class of their model so, which is the library's own.
    for name in () if isinstance(model, type) else ("dropout", "alpha", "nbest_size"):
        if getattr(model, name, None):
            setattr(model, name, None)
    pieces = getattr(tokenizer, "sp_model", None)
    if pieces is not None and (getattr(tokenizer, "sp_model_kwargs", None) or {}):
        pieces.SetEncodeExtraOptions("")
        for name in ("_enable_sampling", "enable_sampling"):
            if getattr(pieces, name, False):
                setattr(pieces, name, False)


def _of_transformers(name: str) -> Tokenizer:
    try:
        import transformers  # noqa: F401 - so that a tokenizer is told to need it, not a model
    except ImportError as error:
        raise _missing("transformers", error) from error
    try:
        with gate():
            found = loaded(name)
            for holder in (getattr(found, "backend_tokenizer", None), found):
                _draw_nothing(holder)
            # Windows are cut here: the library would print that a text has more tokens than this.
            found.model_max_length = sys.maxsize
            special = _special(found)
            pad = found.pad_token_id
    except Unfit as why:
        raise _unusable(name, why) from why

    def encode(text: str, *, framed: bool = False) -> list[int]:
        try:
            with gate():
                return list(found.encode(text, add_special_tokens=framed))
        except Unfit as why:
            raise _unusable(name, why) from why

    return _assembled(name, encode, special, pad, lambda i: str(found.decode([i])))


def _special(found: Any) -> set[int]:
    """The ids of special tokens.

    GPT-2 calls its end-of-text token unknown as well; there it is special all the same.
    """
    names = ("bos_token", "eos_token", "cls_token", "sep_token", "pad_token", "mask_token")
    special = {getattr(found, f"{one}_id") for one in names} - {None}
    return special | (set(found.all_special_ids) - {found.unk_token_id})


def _assembled(
    name: str, encode: Any, special: set[int], pad: int | None, word: Callable[[int], str]
) -> Tokenizer:
    """Find the frame by what is put around a letter; without a padding token, pad with 0."""
    plain, framed = encode("a"), encode("a", framed=True)
    places = [i for i in range(len(framed)) if framed[i : i + len(plain)] == plain]
    if len(places) != 1 and plain:
        raise _unusable(name, "its frame does not hold a text just once")
    at = places[0] if plain else len(framed)
    before, after = tuple(framed[:at]), tuple(framed[at + len(plain) :])
    return Tokenizer(
        name=name,
        encode=encode,
        before=before,
        after=after,
        special=frozenset(special | set(before) | set(after)),
        pad=0 if pad is None else pad,
        word=word,
    )
