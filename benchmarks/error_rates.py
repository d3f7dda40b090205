"""How often intervals and tests are wrong, on values whose truth is known.

python benchmarks/error_rates.py [--rounds 4000]

Prints four tables: coverage of 95% intervals of the mean; flat curves with a significant step; flat
curves whose rank correlation with depth is significant; coverage of intervals over checkpoints. The
rounds are counted, so that a share of 5% of 4,000 is known within 0.7%.
"""

import argparse

import numpy as np

from whitebox_probe.stats import (
    bootstrap_interval,
    hierarchical_interval,
    mean_interval,
    permutation_p,
    sign_p,
    trend,
)

SAMPLES = (2, 3, 5, 10, 29, 30, 100)
LAYERS = (2, 3, 4, 5, 6, 8, 12, 18, 24)
DRAWN = {
    "normal": (lambda random, shape: random.normal(size=shape), 0.0),
    "exponential": (lambda random, shape: random.exponential(size=shape), 1.0),
    "lognormal": (lambda random, shape: random.lognormal(size=shape), float(np.exp(0.5))),
}


def walk(random, shape, kept):
    """Noise over layers: each layer keeps a share of the one before; its variance is 1 in all."""
    noise = random.normal(size=shape)
    for layer in range(1, shape[-1]):
        noise[..., layer] = kept * noise[..., layer - 1] + np.sqrt(1 - kept**2) * noise[..., layer]
    return noise


def coverage(rounds):
    """Share of intervals that hold the true mean, by the percentile bootstrap and as it is now."""
    random = np.random.default_rng(0)
    for name, (draw, truth) in DRAWN.items():
        for count in SAMPLES:
            values = draw(random, (count, rounds))
            found = []
            for interval in (bootstrap_interval, mean_interval):
                low, high = interval(values)
                found.append(((low <= truth) & (truth <= high)).mean())
            yield name, count, *found


def any_significant_step(values, seed):
    """As it was: a step whose bootstrap interval excludes 0. As it is: `trend`."""
    low, high = bootstrap_interval(np.diff(values, axis=1), seed=seed)
    found = trend(values, seed=seed)
    return bool(((low > 0) | (high < 0)).any()), found.falling + found.rising > 0


def flat_steps(rounds, samples=100):
    """Share of flat curves with a significant step."""
    random = np.random.default_rng(1)
    for kept in (0.0, 0.9):
        for layers in LAYERS:
            wrong = [
                any_significant_step(walk(random, (samples, layers), kept), seed)
                for seed in range(rounds)
            ]
            yield kept, layers, *np.mean(wrong, axis=0)


def flat_curves(rounds):
    """Share of flat curves whose p is at most 0.05: layers independent, half kept, and a walk."""
    random = np.random.default_rng(2)
    for layers in LAYERS:
        curves = [walk(random, (rounds, layers), kept) for kept in (0.0, 0.5)]
        steps = np.concatenate([np.zeros((rounds, 1)), random.normal(size=(rounds, layers - 1))], 1)
        curves.append(steps.cumsum(axis=1))
        found = [np.mean([permutation_p(curve) <= 0.05 for curve in each]) for each in curves]
        found.append(np.mean([sign_p(np.diff(curve)) <= 0.05 for curve in curves[-1]]))
        yield layers, *found


def checkpoints(rounds, samples=20):
    """Share of intervals over checkpoints that hold the mean: of all samples at once, and ours."""
    random = np.random.default_rng(3)
    for groups in (2, 3, 5, 10, 40):
        held = []
        for _ in range(rounds):
            drawn = random.normal(size=(groups, 1)) + random.normal(size=(groups, samples))
            low, high = mean_interval(drawn.reshape(-1, 1))
            ours = hierarchical_interval(list(drawn))
            held.append((low[0] <= 0 <= high[0], ours[0] <= 0 <= ours[1]))
        yield groups, *np.mean(held, axis=0)


def show(title, header, rows):
    """A table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        cells = [f"{100 * x:.1f}%" if isinstance(x, np.floating) else str(x) for x in row]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4000)
    rounds = parser.parse_args().rounds
    show(
        "Coverage of the 95% interval of the mean",
        ("values", "N", "percentile bootstrap", "now"),
        coverage(rounds),
    )
    show(
        "Flat curves with a significant step, 100 samples",
        ("kept from layer to layer", "L", "any interval of a step excludes 0", "now"),
        flat_steps(rounds // 4),
    )
    show(
        "Flat curves whose p is at most 0.05",
        ("L", "independent layers", "half is kept", "walk", "walk, sign_p of its steps"),
        flat_curves(rounds),
    )
    show(
        "Coverage of the 95% interval over checkpoints of 20 samples each",
        ("checkpoints", "all samples at once", "now"),
        checkpoints(rounds // 4),
    )
