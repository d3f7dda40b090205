"""What is printed: it fits the terminal, is plain in a pipe, and reads no markup."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from rich.cells import cell_len

from whitebox_probe.cli import _screen
from whitebox_probe.cli import main as cli

ESCAPE = "\x1b"
ROWS = [
    ["compression", "crate-tiny", "238.4 [236.8, 240.0]", "12.6 [+6.4, +18.2]"],
    ["compression", "vit-tiny", "136.9 [134.8, 139.0]", "129.5 [126.7, 132.4]"],
    ["hoyer", "crate-tiny", "0.502 [0.500, 0.504]", "-"],
]
HEADER = ["measure", "model", "first", "change"]


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of so many columns, as far as tables can tell."""

    def of(columns, **environment):
        monkeypatch.setattr(_screen, "on_terminal", lambda: True)
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
            monkeypatch.delenv(name, raising=False)
        environment = {"TERM": "xterm-256color", "COLUMNS": str(columns)} | environment
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return of


def bare(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def widest(text):
    return max(cell_len(line) for line in bare(text).split("\n"))


def test_a_table_in_a_pipe_is_plain_and_of_its_own_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = _screen.table(ROWS, HEADER, by="measure").split("\n")
    assert len(lines) == 4
    assert lines[0] == "measure      model                      first                change"
    assert lines[1] == "compression  crate-tiny  238.4 [236.8, 240.0]    12.6 [+6.4, +18.2]"
    assert lines[3] == "hoyer        crate-tiny  0.502 [0.500, 0.504]                     -"


@pytest.mark.parametrize("columns", [30, 40, 55, 80, 160])
def test_a_table_is_never_wider_than_the_terminal_and_loses_no_number(terminal, columns):
    terminal(columns)
    told = _screen.table(ROWS, HEADER, by="measure", spare=("model",))
    assert widest(told) <= columns
    for row in ROWS:
        for part in " ".join(row[2:]).replace("[", " ").replace("]", " ").split():
            assert part in bare(told)
        assert row[0] in bare(told)


def test_what_does_not_fit_stands_under_headings_with_intervals_below(terminal):
    terminal(44)
    lines = bare(_screen.table(ROWS, HEADER, by="measure")).split("\n")
    assert lines[0].split() == ["model", "first", "change"]
    assert lines[1] == "compression:"
    assert lines[2].split() == ["crate-tiny", "238.4", "12.6"]
    assert lines[3].split() == ["[236.8,", "240.0]", "[+6.4,", "+18.2]"]


def test_columns_that_are_left_out_are_named(terminal):
    terminal(34)
    rows = [[*row, "a long remark on it"] for row in ROWS]
    told = _screen.table(rows, [*HEADER, "remark"], by="measure", spare=("remark", "model"))
    assert bare(told).endswith("(left out, to fit: model, remark)")


def test_a_terminal_has_styles_and_no_color_takes_them_all_away(terminal):
    terminal(80)
    tints = {"model": {"crate": "green"}}
    assert f"{ESCAPE}[32mcrate-tiny" in _screen.table(ROWS, HEADER, tints=tints)
    terminal(80, NO_COLOR="1")
    plain = _screen.table(ROWS, HEADER, tints=tints)
    assert ESCAPE not in plain
    assert widest(plain) <= 80


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_dumb_terminal_is_told_as_a_pipe_is(monkeypatch, term):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", term)
    assert not _screen.on_terminal()


@pytest.mark.parametrize("columns", [None, 80])
def test_names_are_no_markup_and_cannot_move_the_cursor(terminal, columns):
    if columns:
        terminal(columns)
    names = ["[red]a[/red]", ":smile:", "a\x1b[2Jb", "a\u202eb", "a\nb", "[link=x]y[/]"]
    told = bare(_screen.table([[name] for name in names], ["name"])).split("\n")
    assert told[1:] == [
        "[red]a[/red]", ":smile:", r"a\x1b[2Jb", r"a\u202eb", r"a\nb", "[link=x]y[/]"
    ]  # fmt: skip


def test_a_name_of_bytes_that_are_no_text_can_be_printed():
    name = os.fsdecode(b"a\xffb")
    assert _screen.shown(name) == r"a\udcffb"
    assert _screen.shown(name).encode()


def test_wide_characters_count_as_two(terminal):
    terminal(24)
    told = _screen.table([["変圧器の重み" * 3, "1"], ["b", "2"]], ["name", "x"])
    assert widest(told) <= 24


def test_running_text_is_broken_at_words_and_keeps_its_lines(terminal):
    terminal(40)
    told = _screen.wrapped("a crate-tiny-fmnist of which much is told here\nb", indent="  ")
    assert told.split("\n") == ["a crate-tiny-fmnist of which much is", "  told here", "b"]


@pytest.mark.parametrize(
    "form", [[], *([f"--{w}"] for w in ("metrics", "architectures", "data", "figures", "sites"))]
)
@pytest.mark.parametrize("columns", [80, 100])
def test_every_list_fits(terminal, capsys, form, columns):
    terminal(columns)
    assert cli.main(["list", *form]) == 0
    assert widest(capsys.readouterr().out) <= columns


def test_the_list_of_metrics_keeps_to_100_columns_in_a_pipe(capsys):
    from whitebox_probe.metrics.catalogue import catalogue

    assert cli.main(["list", "--metrics"]) == 0
    told = capsys.readouterr().out
    assert widest(told) <= 100
    assert {line.split()[0] for line in told.splitlines() if line.strip()} >= set(catalogue())
    flat = re.sub(r"\s+", " ", told)
    assert "R(Z) = 1/2 logdet(I + d/(n eps^2)" in flat


def test_an_error_shows_control_characters_escaped(capsys):
    assert cli.main(["info", "a\x1b[31mb\u202e"]) == 2
    told = capsys.readouterr().err
    assert r"'a\x1b[31mb\u202e'" in told
    assert ESCAPE not in told


def on_a_terminal(words, columns):
    """What a process writes on a terminal of so many columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
    command = [sys.executable, "-m", "whitebox_probe", *words]
    done = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=subprocess.PIPE, env=kept | {"TERM": "xterm"}
    )
    os.close(its)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    assert done.communicate()[1] == b""
    assert done.returncode == 0
    return written.decode().replace("\r\n", "\n")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")
@pytest.mark.parametrize("columns", [72, 120])
def test_a_process_on_a_terminal_fits_it(columns):
    told = on_a_terminal(["list", "--sites"], columns)
    assert widest(told) <= columns
    assert f"{ESCAPE}[1m" in told


def test_a_terminal_is_told_a_name_once_and_a_pipe_in_every_row(terminal):
    assert _screen.table(ROWS, HEADER, by="measure").count("compression") == 2
    terminal(160)
    lines = bare(_screen.table(ROWS, HEADER, by="measure")).split("\n")
    assert [line.split()[0] for line in lines[1:]] == ["compression", "vit-tiny", "hoyer"]
