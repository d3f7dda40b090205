"""The King James Version of the Bible: 31,102 verses of English prose, in the public domain.

The text is the standard one of 1769, in 66 books. The last five of them, 1 John to Revelation, are
held out from the shipped language models' training; what fills 200 windows of 128 tokens of them
ships with the package. The whole text is read from Debian's packages `bible-kjv` and
`bible-kjv-text`, or from a file in the form that their command prints. (Project Gutenberg has the
text too, in another form: https://www.gutenberg.org/ebooks/10.)
"""

import re
import subprocess
from pathlib import Path

from whitebox_probe._core.errors import DataError
from whitebox_probe._core.gate import Unfit, read_text

NAMES: dict[str, str] = {
    "kjv": "text: 200 windows of the King James Version that no shipped model was trained on",
}
COMMAND = ("bible", "-f", "-l", "100000", "gen1:1-rev22:21")
VALIDATION = ("Heb", "Jas", "1Pet", "2Pet")
HELD_OUT = ("1Jn", "2Jn", "3Jn", "Jude", "Rev")
_SHIPPED = Path(__file__).parent / "kjv-held-out.txt"
_VERSE = re.compile(r"\s*(\d?[A-Za-z]+)\d+:\d+ (.*)")


def read(name: str = "kjv") -> str:
    """Read the text that ships with the package, one verse a line.

    >>> read()[:44]
    'That which was from the beginning, which we '
    """
    return _SHIPPED.read_text(encoding="utf-8")


def about(name: str) -> dict[str, object]:
    """What `whitebox-probe info` says of the data set.

    >>> about("kjv")["licence"]
    'public domain'
    """
    return {
        "text": "from 1 John to Revelation, King James Version of 1769; each model cuts it into "
        "windows with its own tokenizer (200 for the shipped ones)",
        "licence": "public domain",
        "reference": "https://www.gutenberg.org/ebooks/10",
        "read from": "the package itself: it is here",
    }


def corpus(file: Path | None = None) -> dict[str, str]:
    """The whole text by book, one verse a line, without references.

    Args: file: what the command `bible -f -l 100000 gen1:1-rev22:21` of Debian's bible-kjv prints;
        the command is run if None.
    Raises: DataError when it can neither be read nor printed, or holds other lines.
    """
    content = _printed() if file is None else _content(file)
    books: dict[str, list[str]] = {}
    for number, line in enumerate(content.splitlines(), 1):
        found = _VERSE.fullmatch(line)
        if found is None:
            raise DataError(
                f"line {number} of {file or COMMAND[0]} is no verse",
                f"it starts with {line[:20]!r}, not with a reference such as Ge1:1",
                f"Use what '{' '.join(COMMAND)}' prints",
            )
        books.setdefault(found[1], []).append(found[2])
    return {book: "".join(f"{verse}\n" for verse in verses) for book, verses in books.items()}


def split(books: dict[str, str]) -> tuple[str, str, str]:
    """Training, validation and held-out text, by books.

    Raises: DataError for a text that lacks one of the books that are kept apart.
    """
    apart = VALIDATION + HELD_OUT
    missing = [book for book in apart if book not in books]
    if missing or len(books) == len(apart):
        raise DataError(
            "the text cannot be split",
            f"it lacks {', '.join(missing) or 'books to train on'}",
            f"Use what '{' '.join(COMMAND)}' prints",
        )
    training = "".join(text for book, text in books.items() if book not in apart)
    return (
        training,
        "".join(books[book] for book in VALIDATION),
        "".join(books[book] for book in HELD_OUT),
    )


def _content(file: Path) -> str:
    try:
        return read_text(file)
    except Unfit as error:
        raise DataError(
            f"{file} cannot be read", str(error), f"Use what '{' '.join(COMMAND)}' prints"
        ) from error


def _printed() -> str:
    try:
        done = subprocess.run(COMMAND, capture_output=True, check=True)
        return done.stdout.decode("utf-8")
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError) as error:
        raise DataError(
            "the King James Version cannot be read",
            f"the command '{COMMAND[0]}' failed: {error}",
            "Install Debian's packages bible-kjv and bible-kjv-text, or name a file with --data",
        ) from error
