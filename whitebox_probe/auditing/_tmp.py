import itertools
import math
from functools import lru_cache

import numpy as np


def mean_interval(values, *, seed=0):
    import scipy.stats as S

    n = len(values)
    m = values.mean(0)
    h = S.t.ppf(0.975, n - 1) * values.std(0, ddof=1) / math.sqrt(n)
    return m - h, m + h


def paired_p(v):
    import scipy.stats as S

    v = np.asarray(v, float)
    if np.ptp(v) == 0:
        return 1.0 if v[0] == 0 else 0.0
    return float(S.ttest_1samp(v, 0).pvalue)


def spearman(c):
    import scipy.stats as S

    r = S.spearmanr(np.arange(len(c)), c).statistic
    return 0.0 if np.isnan(r) else float(r)


@lru_cache
def _null(n):
    x = np.arange(n) - (n - 1) / 2
    if n <= 8:
        P = np.array(list(itertools.permutations(range(n))))
    else:
        rng = np.random.default_rng(0)
        P = np.argsort(rng.random((99999, n)), axis=1)
    return (P - (n - 1) / 2) @ x


def permutation_p(c):
    c = np.asarray(c)
    n = len(c)
    r = abs(spearman(c)) * ((n**3 - n) / 12)
    N = _null(n)
    k = (np.abs(N) >= r - 1e-9).sum()
    return float(k / len(N) if n <= 8 else (k + 1) / (len(N) + 1))


def fewest_layers(alpha):
    n = 2
    while 2 / math.factorial(n) > alpha:
        n += 1
    return n


def holm(ps):
    ps = np.array(ps, float)
    ok = np.where(~np.isnan(ps))[0]
    o = ok[np.argsort(ps[ok])]
    out = np.full(len(ps), np.nan)
    m = len(o)
    cur = 0
    for i, j in enumerate(o):
        cur = max(cur, min(1, (m - i) * ps[j]))
        out[j] = cur
    return out.tolist()


def prediction_interval(d, *, family=1, level=0.95):
    import scipy.stats as S

    d = np.asarray(d)
    n = len(d)
    h = (
        S.t.ppf(1 - (1 - level) / (2 * max(family, 1)), n - 1)
        * d.std(ddof=1)
        * math.sqrt(1 + 1 / n)
    )
    return float(d.mean() - h), float(d.mean() + h)


def rank_p(v, d, *, wants):
    d = np.asarray(d)
    k = (d <= v).sum() if wants == "low" else (d >= v).sum()
    return float((1 + k) / (len(d) + 1))
