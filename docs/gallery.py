"""Draw every figure of `wp.plots` of the shipped models, and write docs/gallery.md.

    python docs/gallery.py

Run it when a figure is added or looks another way: a test notices a figure that is not in the
gallery. It takes some minutes; nothing is fetched.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import whitebox_probe as wp
from whitebox_probe import checkpoints
from whitebox_probe.plots.kind import kind_of

HERE = Path(__file__).parent
PICTURES = HERE / "figures" / "gallery"
MODELS = ("crate-tiny-fmnist", "crate-tiny-fmnist-init", "vit-tiny-fmnist")
DATA = "fashion-mnist"
TRAINING = tuple(sorted(n for n in checkpoints.registry() if n.startswith(f"{MODELS[0]}-epoch")))
"""Checkpoints between the initialisation and the last, in their order."""
DPI = 110
HEAD = """# Gallery

Every figure of `wp.plots`, drawn of the models that ship with the package, by
`python docs/gallery.py`. Each is one call; `labels`, `palette`, `size`, `width`, `title` and the
caller's own axes are options of all of them. The words under a picture say how to read it; what it
shows holds for these small models.
"""
RATES = ["compression", "coding_rate", "rate_reduction", "sparse_rate_reduction", "l0", "hoyer"]
PARTS = [
    f"attention_rate_change{part}"
    for part in ("", "_common", "_radial", "_tangential", "_shuffled")
]
FIDELITY = ["descent_cosine", "descent_achieved"]
MATRICES = ["coherence", "token_spectrum", "stable_rank"]


class Inputs:
    """What figures are drawn of, each made once."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What was made under a name."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def results(self) -> tuple[wp.Result, ...]:
        """Of the trained CRATE, the untrained one, and the ViT."""
        metrics = [*RATES, *PARTS, *FIDELITY, *MATRICES]
        return self.once("results", lambda: tuple(_probe(m, metrics) for m in MODELS))

    def pair(self) -> tuple[wp.Result, ...]:
        """Of the trained CRATE and the ViT."""
        return self.results()[::2]

    def crate(self) -> tuple[wp.Result, ...]:
        """Of the trained CRATE and the untrained one, with what only a CRATE has."""
        metrics = [*FIDELITY, PARTS[0], "lasso_gap_closed"]
        return self.once("crate", lambda: tuple(_probe(m, metrics) for m in MODELS[:2]))

    def swept(self) -> tuple[wp.Result, ...]:
        """R^c with several eps."""
        eps = [0.05, 0.1, 0.2, 0.5, 1.0]
        return self.once("eps", lambda: tuple(_probe(m, RATES[:1], eps=eps) for m in MODELS[::2]))

    def training(self) -> tuple[wp.Result, ...]:
        """Of the checkpoints of one training."""
        order = [MODELS[1], *TRAINING, MODELS[0]]
        return self.once("training", lambda: tuple(_probe(m, RATES) for m in order))

    def view(self) -> tuple[wp.View, ...]:
        """Four images inside the trained CRATE."""
        return (self.once("view", lambda: wp.view(MODELS[0], DATA, limit=4, seed=3)),)

    def text(self) -> tuple[wp.View, ...]:
        """Two windows of text inside the GPT-2-like model."""
        return (self.once("text", lambda: wp.view("gpt2-tiny-kjv", "kjv", limit=2)),)

    def scores(self) -> tuple[Any, ...]:
        """Segmentation scores against the pixels that are not black."""

        def made() -> Any:
            seen = wp.view(MODELS[0], DATA, limit=64)
            assert seen.images is not None
            return wp.segmentation(seen, seen.images[..., 0] > 0.05)

        return (self.once("scores", made),)

    def similarity(self) -> tuple[wp.Similarity, ...]:
        """Layers of the CRATE against those of the ViT."""
        first, second = MODELS[0], MODELS[2]
        models = wp.load(first), wp.load(second)
        return (self.once("similarity", lambda: wp.similarity(*models, DATA, limit=200)),)

    def audit(self) -> tuple[wp.Audit, ...]:
        """The audit of the CRATE and the ViT."""
        models = [wp.load(MODELS[0]), wp.load(MODELS[2])]
        return (self.once("audit", lambda: wp.audit(models, DATA, limit=100)),)

    def images(self) -> tuple[Any, ...]:
        """Images, rebuilt from their leading directions, and what was hidden: nothing."""
        import numpy as np

        shown = self.view()[0].images
        assert shown is not None
        flat = shown.reshape(len(shown), *shown.shape[1:3]).astype(float)
        left, sigma, right = np.linalg.svd(flat)
        rebuilt = (left[:, :, :4] * sigma[:, None, :4]) @ right[:, :4]
        return tuple(
            np.repeat(each, 3, axis=1) for each in (shown.transpose(0, 3, 1, 2), rebuilt[:, None])
        )


OF = {
    "over_steps": ("training", {"labels": None}),
    "eps_sweep": ("swept", {}),
    "fidelity": ("crate", {}),
    "rate_change_parts": ("pair", {}),
    "text": ("text", {"value": "norm", "layer": 3}),
    "curves": ("results", {"metric": "stable_rank"}),
    "sparsity": ("results", {"metric": "hoyer"}),
    "reconstruction": ("images", {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
    "attention": ("view", {"layer": 6}),
    "attention_matrix": ("text", {"layer": 4}),
}
"""Figure -> what it is drawn of, and its keywords, where these are not what its kind says."""
USUAL = {
    "results": "results",
    "similarity": "similarity",
    "audit": "audit",
    "images": "images",
    "view": "view",
    "scores": "scores",
}


def recipe(name: str) -> tuple[str, dict[str, Any]]:
    """What a figure is drawn of, and its keywords."""
    kind = kind_of(wp.plots.figures[name])
    assert kind is not None
    of, keywords = OF.get(name, (USUAL[kind.takes], {}))
    return of, {key: value for key, value in keywords.items() if value is not None}


def draw() -> None:
    """Draw all of them, and write the page."""
    inputs = Inputs()
    PICTURES.mkdir(parents=True, exist_ok=True)
    parts = [HEAD]
    for name, figure in wp.plots.figures.items():
        of, keywords = recipe(name)
        drawn = figure(*getattr(inputs, of)(), **keywords)
        with_picture = PICTURES / f"{name}.png"
        drawn.savefig(with_picture, dpi=DPI, metadata={"Software": None})
        print(with_picture.name, f"{with_picture.stat().st_size / 1000:.0f} kB")
        told = "".join(f", {key}={value!r}" for key, value in keywords.items()).replace("'", '"')
        summary, _, rest = (inspect.getdoc(figure) or "").partition("\n\n")
        more = rest.split("Args:")[0].split("Raises:")[0].strip()
        words = " ".join(f"{summary}\n\n{more}".split())
        parts.append(
            f"## `{name}`\n\n![{name}](figures/gallery/{name}.png)\n\n{words}\n\n"
            f"```python\nwp.plots.{name}({ARGUMENTS[of]}{told})\n```\n"
        )
    (HERE / "gallery.md").write_text("\n".join(parts))


ARGUMENTS = {
    "results": "crate, untrained, vit",
    "pair": "crate, vit",
    "crate": "crate, untrained",
    "swept": "crate, vit",
    "training": "*checkpoints",
    "view": "view",
    "text": "view",
    "scores": "scores",
    "similarity": "found",
    "audit": "audit",
    "images": "images, rebuilt",
}


def _probe(model: str, metrics: list[str], **options: Any) -> wp.Result:
    return wp.probe(wp.load(model), DATA, metrics, limit=100, progress=False, **options)


if __name__ == "__main__":
    draw()
