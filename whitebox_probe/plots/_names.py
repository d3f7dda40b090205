"""Names as they are: no character of a model's name is taken for mathematics or for TeX."""

import re

from whitebox_probe._core.lines import shown
from whitebox_probe.plots._settings import setting

_MOST, _TITLE = 400, 600  # characters of a name, and of a line of a title
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}
# Signs of ours that TeX has in mathematics alone.
_SPECIAL |= {"≠": r"$\neq$", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$"}
_SPECIAL |= {"↵": r"$\hookleftarrow$", "␣": r"\textvisiblespace{}"}
_FORMULA = re.compile(r"((?<!\\)\$(?:\\\$|[^$])*?(?<!\\)\$)")
BLANK = re.compile("[\x00-\x1f\x7f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]+")
"""What has no look of its own, turns the line, or may not stand in the XML of an SVG."""


def verbatim(name: object, most: int = _MOST) -> str:
    r"""The text that matplotlib draws as this name; in TeX too, where the user's setting is that.

    >>> print(verbatim("a_$b$^c"))
    a_\$b\$^c
    """
    text = shown(BLANK.sub(" ", str(name)), most)
    return tex(text) if setting("text.usetex") else text.replace("$", r"\$")


def words(text: object) -> str:
    r"""A text in which `$...$` is mathematics, if it can be read so; else it is drawn as it is.

    >>> words("ViT ($p=4$)"), words(r"$\oops$")
    ('ViT ($p=4$)', '\\$\\oops\\$')
    """
    found = "\n".join(shown(line, _TITLE) for line in str(text).split("\n"))
    if not formula(found):
        return verbatim(found, _TITLE)
    return tex_around(found) if setting("text.usetex") else found


def formula(text: str) -> bool:
    """Whether matplotlib reads it as holding mathematics, and can."""
    from matplotlib.cbook import is_math_text
    from matplotlib.mathtext import MathTextParser

    if not is_math_text(text):
        return False
    try:
        for line in text.split("\n"):
            MathTextParser("path").parse(line)
    except ValueError:
        return False
    return True


def tex(text: str) -> str:
    r"""What TeX sets as this text.

    >>> print(tex("50%_a\\b"))
    50\%\_a\textbackslash{}b
    """
    return "".join(_SPECIAL.get(character, character) for character in text)


def tex_around(text: str) -> str:
    r"""The same of a text with formulas, which stay; a dollar sign in it is written `\$`.

    >>> print(tex_around("$x_1$ of a_b"))
    $x_1$ of a\_b
    """
    parts = _FORMULA.split(text)
    return "".join(part if i % 2 else tex(part.replace(r"\$", "$")) for i, part in enumerate(parts))
