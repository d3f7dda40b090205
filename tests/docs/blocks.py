"""Blocks of code in pages, and how a test runs them as they stand."""

import re
import shlex
from pathlib import Path

from whitebox_probe.cli import main as cli

ROOT = Path(__file__).parents[2]


def blocks(page, language):
    """The blocks of a language in a page, in their order."""
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def commands(block):
    """The lines of a block of shell, those that go on joined, as words."""
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def expect_runs(words):
    """Run one line of this program here; its output is left to the test."""
    program, *rest = words
    assert program == cli.PROGRAM
    assert cli.main(rest) == 0, " ".join(words)
