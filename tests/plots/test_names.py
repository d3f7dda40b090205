"""Names are drawn as they are, whatever is in them; and who is an initialisation, the run says."""

import dataclasses
import re
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

import whitebox_probe as wp
from whitebox_probe.plots import _fit, _names
from whitebox_probe.plots.kind import kind_of

sys.path.insert(0, str(Path(__file__).parent))
import synthetic

HARD = (
    "my_model",
    "$5-and-$6",
    r"$\frac$",
    "a$b",
    "100%_#1&co",
    r"C:\runs\new",
    "x^2_{y}",
    "_hidden",
    "Zürich-α",
    r"\$a$b$",
    "~tilde~ <b>",
)


def shown(figure):
    """What matplotlib makes of each text: as Text.draw reads it, formulas left alone."""
    figure.canvas.draw()
    found = []
    for text in figure.findobj(mpl.text.Text):
        for line in text.get_text().split("\n"):
            plain, math = text._preprocess_math(line)
            found.append(plain if math is False else line)
    return found


@pytest.mark.parametrize("name", HARD)
def test_a_hard_name_is_drawn_as_it_is_in_curves(name):
    for legend in (True, "end"):
        results = [synthetic.result(name, ["hoyer"]), synthetic.result("vit", ["hoyer"], seed=1)]
        figure = wp.plots.sparsity(*results, metric="hoyer", legend=legend, width="text")
        assert name in shown(figure)


def test_a_name_longer_than_the_page_takes_lines_and_leaves_the_others_their_size():
    results = [synthetic.result("a" * 300, ["hoyer"]), synthetic.result("vit", ["hoyer"], seed=1)]
    figure = wp.plots.sparsity(*results, metric="hoyer")
    figure.canvas.draw()
    (legend,) = figure.legends
    long, short, *_ = legend.get_texts()
    assert long.get_text().replace("\n", "") == "a" * 300
    assert long.get_window_extent().x1 <= figure.bbox.width
    assert (long.get_fontsize() > 3.5, short.get_fontsize() > 6) == (True, True)


@pytest.mark.parametrize("name", ["$5-and-$6", r"$\frac$", "_hidden", "my-init"])
def test_and_in_a_title_a_label_and_given_axes(name):
    result = synthetic.result("vit", ["hoyer"])
    figure = wp.plots.sparsity(result, metric="hoyer", labels={"vit": name})
    wanted = name if name != "$5-and-$6" else None  # a label may hold mathematics
    assert wanted is None or wanted in shown(figure)
    figure = mpl.figure.Figure()
    wp.plots.sparsity(synthetic.result(name, ["hoyer"]), metric="hoyer", ax=figure.subplots())
    told = figure.axes[0].get_legend().get_texts()[0].get_text()
    assert told.replace(r"\$", "$").startswith(name.removesuffix("-init"))


def test_only_the_run_says_that_a_model_is_an_initialisation():
    told = synthetic.result("vit-init", ["hoyer"])
    bare = dataclasses.replace(told, run=dataclasses.replace(told.run, checkpoint={}))
    assert "vit, at initialisation" in shown(wp.plots.sparsity(told, metric="hoyer"))
    assert "vit-init" in shown(wp.plots.sparsity(bare, metric="hoyer"))
    other = dataclasses.replace(told.run, model="step-0")
    renamed = dataclasses.replace(told, run=other, frame=told.frame.assign(model="step-0"))
    assert "vit, at initialisation" in shown(wp.plots.sparsity(renamed, metric="hoyer"))


def test_the_registry_says_it_of_what_it_ships():
    from whitebox_probe import checkpoints

    found = {name: each.initial_of for name, each in checkpoints.registry().items()}
    assert found["crate-tiny-fmnist-init"] == "crate-tiny-fmnist"
    assert all(base is None or base in found for base in found.values())
    assert found["crate-tiny-fmnist"] is None


def test_labels_may_hold_mathematics_that_can_be_read():
    figure = wp.plots.sparsity(
        synthetic.result("vit", ["hoyer"]), metric="hoyer", labels=["ViT ($p=4$)"]
    )
    assert "ViT ($p=4$)" in shown(figure)


def test_with_tex_names_are_escaped():
    with mpl.rc_context({"text.usetex": True}):
        assert _names.verbatim("50%_a$b") == r"50\%\_a\$b"
        assert _names.words("50% of $x_1$") == r"50\% of $x_1$"


def test_names_with_dollars_are_broken_where_others_are():
    assert _fit.wrapped(r"a\$b c\$d [x y]", 4, len) == [r"a\$b", r"c\$d", "[x y]"]
    assert _fit.wrapped("$a b$ c", 3, len) == ["$a b$", "c"]


def test_samples_of_a_view_and_settings_of_an_audit():
    view = dataclasses.replace(synthetic.view(), labels=("$a$b$", "c_d", r"\e"))
    assert {"$a$b$", "c_d", r"\e"} <= set(shown(wp.plots.attention(view)))
    found = synthetic.audit("a$b$c")
    robust = found.robustness.assign(setting=found.robustness["setting"].replace("eps 0.2", "$q$"))
    figure = wp.plots.robustness(dataclasses.replace(found, robustness=robust))
    assert {"a$b$c", "$q$"} <= set(shown(figure))
    assert "a$b$c" in shown(wp.plots.audit(found))


class TestTex:
    """What reaches TeX under `text.usetex`; there is none here, so that its sizes are made up."""

    FORMULA = re.compile(r"(?<!\\)\$(?:\\\$|[^$])*(?<!\\)\$")
    ESCAPED = re.compile(r"\\[&%$#_{} ]|\\text\w+\{\}|\\mathdefault|[{}](?=\s*$)")

    @pytest.fixture
    def sent(self, monkeypatch):
        """Each text that is sent to TeX."""
        from matplotlib.texmanager import TexManager

        found = []

        def sized(text, fontsize, renderer=None):
            found.append(text)
            return 0.5 * fontsize * len(text), fontsize, 0.2 * fontsize

        monkeypatch.setattr(TexManager, "get_text_width_height_descent", staticmethod(sized))
        with mpl.rc_context({"text.usetex": True}):
            yield found

    def unsafe(self, text):
        """What TeX would take for something else, outside of formulas."""
        rest = self.ESCAPED.sub("", self.FORMULA.sub("", text))
        return re.findall(r"[\\&%$#_{}^~<>|]|[^\x00-\xff]", rest)

    def drawn(self, name, **options):
        names = ("a_$b", "50%_#1&co", r"x^2~\y<|>", "c-init")
        given = synthetic.inputs(kind_of(wp.plots.figures[name]).takes, names=names)
        needed = {"metric": "hoyer"} if name == "curves" else {}
        wp.plots.figures[name](*given, **needed, **options).draw_without_rendering()

    @pytest.mark.parametrize("name", list(wp.plots.figures))
    def test_nothing_that_a_figure_says_is_taken_for_a_command(self, name, sent):
        self.drawn(name, title="100% of $x_1$ & y_2 #3")
        assert sent
        wrong = {text: self.unsafe(text) for text in sent if self.unsafe(text)}
        assert not wrong
        told = re.sub(r"\s", "", "".join(sent))
        assert r"100\%of$x_1$\&y\_2\#3" in told

    def test_the_check_finds_what_is_not_escaped(self):
        for text in ("95% interval", "a_b", "x^2", "$5", "R & D", "#1", r"\y", "3 ≠ 0"):
            assert self.unsafe(text), text
        for text in (r"95\% of $R^c$", r"a\_b \textasciicircum{}2", r"\$5 \& ±1", "$\\neq$ 0"):
            assert not self.unsafe(text), text

    @pytest.mark.parametrize("name", ["compression", "panel", "coherence", "rate_change_parts"])
    def test_names_are_set_as_they_are(self, name, sent):
        self.drawn(name)
        told = re.sub(r"\s", "", "".join(sent))
        assert r"a\_\$b" in told
        assert r"50\%\_\#1\&co" in told
        assert r"x\textasciicircum{}2\textasciitilde{}\textbackslash{}y" in told

    def test_tokens_of_a_text_are_set_letter_by_letter(self, sent):
        words = ("50%", " &", "a_b", "$x$", "\n", "#", "{^}", "~", "\\", " ", "<|>")
        view = dataclasses.replace(
            synthetic.view(), texts=tuple((*words, *["e"] * (17 - len(words))) for _ in range(3))
        )
        for draw in (wp.plots.text, wp.plots.attention_matrix, wp.plots.tokens):
            del sent[:]
            draw(view).draw_without_rendering()
            assert not {text for text in sent if self.unsafe(text)}
        assert r"50\%" in sent
        assert r"\$x\$" in sent
