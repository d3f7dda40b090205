"""Numbers and tables in print."""

import math
import re
import struct
from decimal import Context, Decimal

import numpy as np
import pytest

from whitebox_probe._core.digits import Number
from whitebox_probe.results.printed import latex, markdown


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (Number(0.0), "0"),
        (Number(0.0, sign="+"), "0"),
        (Number(-0.0, 0.0, 0.0), "0"),
        (Number(math.nan), "-"),
        (Number(1.0, sign="+"), "+1.000"),
        (Number(123.4567, 120.1, 126.8), "123.5 [120.1, 126.8]"),
        (Number(123456.7, 120000, 127000), "123457 [120000, 127000]"),
        (Number(0.5, 0.5, 0.5), "0.5000 [0.5000, 0.5000]"),
        (Number(2.0, 2 - 1e-16, 2 + 1e-15), "2.000 [2.000, 2.000]"),
        (Number(1e-12, -1e-9, 1e-9, "+"), "0.0 [-1.0e-9, +1.0e-9]"),
        (Number(3.21e8), "3.210e8"),
        (Number(0.99996), "1.000"),
        (Number(math.inf), "inf"),
        (Number(5e-324), "4.941e-324"),
        (Number(1e-310, 0.9e-310, 1.1e-310), "1.00e-310 [0.90e-310, 1.10e-310]"),
        (Number(1.7e308, -1.7e308, 1.7e308, "+"), "+1.7e308 [-1.7e308, +1.7e308]"),
        (Number(0.0, 0.0, 5e-324), "0.000 [0.000, 4.941e-324]"),
        (Number(1.0, -math.inf, math.inf), "1 [-inf, inf]"),
    ],
)
def test_digits_are_those_of_the_interval(number, told):
    assert str(number) == told


def _doubles(count):
    """Doubles of random bits: of every size, denormals and what is not finite among them."""
    bits = np.random.default_rng(0).integers(0, 1 << 64, count, dtype=np.uint64)
    small = bits[::4] & np.uint64(0x800FFFFFFFFFFFFF)
    return [struct.unpack("<d", struct.pack("<Q", int(each)))[0] for each in (*bits, *small)]


def test_every_number_is_shown_to_its_last_digit():
    exact = Context(prec=2000)
    for value in _doubles(4000):
        for low, high in [(math.nan, math.nan), (value / 2, value * 1.5), (-value, value)]:
            told = Number(value, low, high).parts()
            if not math.isfinite(value):
                assert told == [] if math.isnan(value) else told[0] == f"{value:g}"
                continue
            if not math.isfinite(high) and not math.isnan(high):
                continue
            for text, number in zip(told, (value, low, high), strict=False):
                shown = Decimal(text)
                last = Decimal((0, (1,), shown.as_tuple().exponent))
                apart = exact.abs(exact.subtract(shown, Decimal(number)))
                assert 2 * apart <= last, (text, number)
            if len(told) == 1 and value and not 1e3 <= abs(value) < 1e6:
                assert len(Decimal(told[0]).as_tuple().digits) == 4


def test_no_number_is_a_row_of_zeros():
    for exponent in range(-14, 9):
        for sign in ("", "+"):
            value = 1.2345678 * 10.0**exponent
            text = str(Number(value, value * 0.9, value * 1.1, sign))
            assert float(text.split(" [")[0]) == pytest.approx(value, rel=0.05)
            assert "0.00000" not in text


def parsed(text):
    """The rows of a booktabs tabular: a small reader of what TeX would set."""
    body = re.search(r"\\begin\{tabular\}\{([lr]+)\}\n(.*)\\end\{tabular\}", text, re.DOTALL)
    columns, lines = body[1], body[2]
    assert [lines.count(f"\\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 1, 1]
    rows = re.sub(r"\\(top|mid|bottom)rule\n", "", lines).split("\\\\\n")
    assert rows.pop() == ""
    cells = [re.split(r"(?<!\\)&", row) for row in rows]
    assert {len(row) for row in cells} == {len(columns)}
    for cell in (cell for row in cells for cell in row):
        rest = re.sub(r"\\num\{[+-]?\d+(\.\d+)?(e-?\d+)?\}|\\text\w+\{\}|\\[&%$#_{}]", "", cell)
        assert not set(rest) & set("\\{}&%$#_^~"), cell
    return columns, [[cell.strip() for cell in row] for row in cells]


ROWS = [["a_b & 50%", "x^2{\\}", Number(0.5, 0.4, 0.6)], ["~$#", "<b>|", Number(math.nan)]]


def test_latex_is_whole_and_escapes_names():
    columns, rows = parsed(latex(["name", "other", "value"], ROWS))
    assert columns == "llr"
    assert rows[1][2] == r"\num{0.50} [\num{0.40}, \num{0.60}]"
    assert r"\caption{50\% of \_}" in latex(["a"], [["b"]], caption="50% of _")


def test_markdown_has_as_many_cells_in_each_line():
    text = markdown(["name", "other", "value"], ROWS)
    lines = text.splitlines()
    assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert lines[1] == "| --- | --- | ---: |"
    assert r"\<b\>\|" in lines[3]
    assert "a_b" in lines[2]


def test_an_audit_in_print():
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1] / "plots"))
    import synthetic

    found = synthetic.audit("my_model", "vit")
    columns, rows = parsed(found.to_latex())
    assert columns == "llrll"
    assert len(rows) == 1 + len(found.frame)
    assert r"my\_model" in rows[1]
    assert found.to_markdown().count("\n") == 2 + len(found.frame)
    assert r"\caption{Verdicts}" in found.to_latex(caption="Verdicts")
