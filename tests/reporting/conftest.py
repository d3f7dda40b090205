"""Reports of small made-up results, and the page of one in headless Chromium."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "plots"))
sys.path.insert(0, str(Path(__file__).parents[1] / "results"))

EVIL = "<script>alert(1)</script>"
CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)


@pytest.fixture(scope="session")
def made():
    from importlib import util

    file = Path(__file__).parents[1] / "results" / "conftest.py"
    spec = util.spec_from_file_location("made_up_results", file)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.made_up


@pytest.fixture(scope="session")
def results(made):
    """A CRATE with its Gaussian null among its rows, and a ViT of the same sizes."""
    nulls, random = ["", "gaussian"], np.random.default_rng(2)
    few = [
        made("crate", null=nulls),
        made("vit", family="timm_vit", basis="qkv:k", shift=3.0, null=nulls),
    ]
    return [
        replace(r, matrices={k: random.uniform(size=v.shape) for k, v in r.matrices.items()})
        for r in few
    ]


@pytest.fixture(scope="session")
def verdicts():
    import synthetic

    found = synthetic.audit("crate", "vit")
    frame = found.frame.assign(
        statistic="change",
        p=0.01,
        p_holm=0.02,
        tested="layers",
        samples=6,
        compared=-0.000123,
        null="random weights",
        null_draws=3,
        null_mean=0.0,
        null_low=-0.1,
        null_high=0.1,
        null_p=0.25,
        beyond_null="no",
        robust="robust",
        sentence="it changes",
    )
    rules = {
        claim: {
            "claim": text,
            "statistic": "change",
            "unit": "share of R^c",
            "rule": "it falls",
            "about": text,
            "keeps its meaning under": "eps",
            "loses its meaning under": "",
        }
        for claim, text in zip(frame["claim"], frame["text"], strict=True)
    }
    parts = found.curves[["model", "claim"]].drop_duplicates().assign(part="rho", value=1.0)
    robustness = found.robustness.assign(why="")
    return replace(found, frame=frame, robustness=robustness, parts=parts, rules=rules)


@pytest.fixture(scope="session")
def a_view():
    """Three layers of two images under two heads."""
    from whitebox_probe.results.view import View

    random = np.random.default_rng(1)
    weights = random.dirichlet(np.ones(17), size=(3, 2, 2, 17)).astype("float32")
    sites = {("attn_weights", layer): weights[layer - 1] for layer in (1, 2, 3)}
    sites |= {
        ("z_out", layer): random.standard_normal((2, 17, 8)).astype("float32")
        for layer in (1, 2, 3)
    }
    return View(
        model="vit",
        sites=sites,
        images=random.uniform(size=(2, 8, 8, 3)).astype("float32"),
        grid=(4, 4),
        patches=tuple(range(1, 17)),
        class_index=0,
        labels=("shirt", EVIL),
        ids=(3, 5),
    )


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is found: apt-get install chromium")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="session")
def full(tmp_path_factory, results, verdicts, a_view):
    """A report of everything."""
    import synthetic

    import whitebox_probe as wp

    folder = tmp_path_factory.mktemp("full")
    similar = synthetic.similarity("crate", "vit")
    return wp.report([*results, similar, a_view], folder / "full.html", audit=verdicts)


class Opened:
    """A page that is open, and what it did that it should not."""

    def __init__(self, page):
        self.page, self.told, self.asked = page, [], []
        page.on("console", lambda m: self.told.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: self.told.append(f"error: {e}"))
        page.on("dialog", lambda d: (self.told.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: self.asked.append(r.url))

    def shown(self, chart):
        return int(self.page.get_attribute(f"#{chart}", "data-shown") or 0)

    def picture(self, chart):
        return self.page.inner_html(f"#{chart}-view")

    def change(self, chart, act):
        """Do something, wait for the chart, and give its picture before and after."""
        before, count = self.picture(chart), self.shown(chart)
        act()
        self.page.wait_for_selector(f"#{chart}:not([data-shown='{count}'])")
        return before, self.picture(chart)


@pytest.fixture
def opened(browser):
    """Open a file; what a page says on the console is an error, and so is any request."""
    contexts = []

    def open_(path, *, width=1100, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        context.set_default_timeout(30_000)
        context.route(
            lambda url: not url.startswith(("file:", "data:", "blob:")), lambda r: r.abort()
        )
        it = Opened(context.new_page())
        it.page.goto(Path(path).as_uri())
        it.page.wait_for_selector("html[data-ready]", state="attached")
        return it

    yield open_
    for context in contexts:
        context.close()
