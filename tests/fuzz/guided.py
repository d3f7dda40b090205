"""Lets coverage lead hostile bytes through one reader, by atheris (libFuzzer).

`python -m tests.fuzz.guided torch --minutes 30`: starts from the sound files and from the corpus,
and puts inputs that reach new code into `tests/fuzz/corpus/torch`. What is no refusal is printed
with its traceback, kept beside it as `crash-…`, and ends the program with another status than 0.
"""

import argparse
import sys
import tempfile
from pathlib import Path

LONGEST = 1 << 16


def main() -> None:
    """One reader, for so long."""
    import atheris

    # What is imported before this is not followed: the readers, too, come inside.
    assert "whitebox_probe" not in sys.modules, "coverage would lead nothing"
    with atheris.instrument_imports(include=["whitebox_probe"]):
        from tests.fuzz.readers import CORPUS, READERS, accepts

        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("reader", choices=sorted(READERS))
        parser.add_argument("--minutes", type=float, default=30.0)
        parser.add_argument("--corpus", type=Path, default=CORPUS, help="where inputs are kept")
        args = parser.parse_args()
        with tempfile.TemporaryDirectory() as top:
            place = Path(top) / "place"
            seeds = Path(top) / "seeds"
            for folder in (place, seeds):
                folder.mkdir()
            for number, content in enumerate(READERS[args.reader].sound()):
                (seeds / f"{number}").write_bytes(content)
                accepts(args.reader, content, place)  # imports what it needs, instrumented
            kept = args.corpus / args.reader
            kept.mkdir(parents=True, exist_ok=True)
            options = [f"-max_total_time={60 * args.minutes:.0f}", f"-max_len={LONGEST}"]
            options += ["-timeout=60", "-rss_limit_mb=8192", f"-artifact_prefix={kept}/"]

            def one(content: bytes) -> None:
                accepts(args.reader, content, place)

            atheris.Setup([sys.argv[0], *options, str(kept), str(seeds)], one)
            atheris.Fuzz()


if __name__ == "__main__":
    main()
