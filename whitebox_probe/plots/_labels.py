"""What the axes say: the symbol of each measure, on the tokens that it was taken on."""

from dataclasses import dataclass

TOKENS = {
    "z_in": r"Z^{\ell}",
    "z_half": r"Z^{\ell+1/2}",
    "z_out": r"Z^{\ell+1}",
}


@dataclass(frozen=True)
class Measure:
    """How a measure is written; `<Z>` stands for the tokens of its site.

    Attributes:
        text: the axis label, in matplotlib's mathtext, without its unit.
        unit: appended in brackets, if there is one.
        symbol: what stands for it in the official convention, whose tokens are scaled first.
        bases: whether it depends on the subspaces U.
    """

    text: str
    unit: str = ""
    symbol: str = ""
    bases: bool = False


MEASURES = {
    "coding_rate": Measure(r"$R(<Z>)$", "nats", "$R$"),
    "compression": Measure(r"$R^c(<Z>;\, U^\ell)$", "nats", "$R^c$", bases=True),
    "rate_reduction": Measure(
        r"$\Delta R(<Z>;\, U^\ell)$", "nats", r"$\Delta R = R - R^c$", bases=True
    ),
    "sparse_rate_reduction": Measure(
        r"$\Delta R(<Z>;\, U^\ell) - \lambda\|<Z>\|_0$", "nats", bases=True
    ),
    "l0": Measure(r"non-zero entries $\|<Z>\|_0\,/\,nd$"),
    "thresholded": Measure(r"entries $|z| > \tau\,\mathrm{rms}(<Z>)$"),
    "hoyer": Measure(r"Hoyer sparseness of $<Z>$"),
    "coherence_mean": Measure(r"mean of $\|Q_i^\top Q_j\|_2$, $i<j$", bases=True),
    "coherence_max": Measure(r"largest $\|Q_i^\top Q_j\|_2$, $i<j$", bases=True),
    "principal_angle_min": Measure("smallest principal angle", "rad", bases=True),
    "principal_angle_mean": Measure("mean principal angle", "rad", bases=True),
}


def in_nats(metric: str) -> bool:
    """Whether a measure grows with the number of tokens, the width and the heads."""
    return metric in MEASURES and MEASURES[metric].unit == "nats"


def axis(metric: str, *, site: str, convention: str, per_token: bool) -> str:
    r"""The label of a measure's axis.

    >>> axis("coding_rate", site="z_out", convention="paper", per_token=True)
    '$R(Z^{\\ell+1})$ [nats / token]'
    >>> axis("coding_rate", site="attn_in", convention="official", per_token=False)
    '$R$, official convention [nats]'
    """
    measure = MEASURES.get(metric, Measure(metric.replace("_", " ")))
    if convention == "official" and measure.symbol:
        text = f"{measure.symbol}, official convention"
    else:
        text = measure.text.replace("<Z>", TOKENS.get(site, "Z"))
        if site not in TOKENS and site != "weights":
            text += f" at {site}"
    unit = measure.unit + (" / token" if per_token else "")
    return f"{text} [{unit}]" if unit else text
