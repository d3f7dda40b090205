"""Named sums of float64 over a data set, which can be kept in a file, restored and put together."""

from collections.abc import Iterator

import torch
from torch import Tensor

from whitebox_probe._core.errors import ProbeError

TOTAL, CONSTANT, ROWS, SCATTER = "sum", "constant", "rows", "scatter"
KINDS = (TOTAL, CONSTANT, ROWS, SCATTER)


class Sums:
    """Sums, constants and rows by name; each comes into being with its first value.

    A sum is added up over batches and processes. A constant is the same in all of them. Rows are
    joined, and whoever reads them sorts them, so that no order shows. A scatter is of points about
    their mean: a second moment would lose it where the mean is large.
    """

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}
        self._kinds: dict[str, str] = {}

    def total(self, name: str, value: Tensor) -> None:
        """Add to a sum; its shape is that of the first value."""
        if name not in self._values:
            # Side by side whatever the strides: products round by how rows lie.
            zeros = torch.zeros(value.shape, dtype=torch.float64, device=value.device)
            self.put(name, TOTAL, zeros)
        self._values[name].add_(value)

    def constant(self, name: str, value: Tensor) -> None:
        """Keep what is the same in every batch and on every process."""
        self.put(name, CONSTANT, value.contiguous())

    def rows(self, name: str, value: Tensor) -> None:
        """Set the rows kept so far, (N, ...)."""
        self.put(name, ROWS, value)

    def scatter(self, name: str, X: Tensor) -> None:
        """Add points X, (N, d), to those whose count, mean and scatter are kept."""
        mean = X.mean(dim=0)
        centred = X - mean
        count = torch.full_like(mean, len(X))
        new = torch.cat([centred.mT @ centred, mean[None], count[None]])
        old = self._values.get(name)
        self.put(name, SCATTER, new if old is None else _together(old, new))

    def scattered(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Scatter about the mean (d, d), mean (d,) and count () of the points so far."""
        value = self._values[name]
        return value[:-2], value[-2], value[-1, 0]

    def put(self, name: str, kind: str, value: Tensor) -> None:
        """Set a value to what `items` gave.

        Raises: ProbeError for a kind that is not known.
        """
        if kind not in KINDS:
            raise ProbeError(
                f"'{name}' is of the kind '{kind}'",
                "a sum over samples is one of: " + ", ".join(KINDS),
                "Begin anew",
            )
        self._values[name], self._kinds[name] = value, kind

    def __getitem__(self, name: str) -> Tensor:
        """A sum, a constant or rows, so far."""
        return self._values[name]

    def __contains__(self, name: str) -> bool:
        """Whether a value of that name has come."""
        return name in self._values

    def __len__(self) -> int:
        """How many values there are."""
        return len(self._values)

    def names(self, prefix: str) -> list[str]:
        """What follows `prefix` in the names, sorted by number."""
        found = [n.removeprefix(prefix) for n in self._values if n.startswith(prefix)]
        return sorted(found, key=int)

    def items(self) -> Iterator[tuple[str, str, Tensor]]:
        """(name, kind, value) of everything, in the order in which it came."""
        for name, value in self._values.items():
            yield name, self._kinds[name], value

    def merge(self, other: "Sums") -> None:
        """Add what other samples gave: sums are added, rows joined, constants taken where missing.

        Other's tensors are copied, never shared.
        """
        for name, kind, value in other.items():
            if name not in self._values:
                self.put(name, kind, value.clone(memory_format=torch.contiguous_format))
            elif kind == TOTAL:
                self._values[name].add_(value.to(self._values[name].device))
            elif kind == SCATTER:
                mine = self._values[name]
                self._values[name] = _together(mine, value.to(mine.device))
            elif kind == ROWS:
                mine = self._values[name]
                self._values[name] = torch.cat([mine, value.to(mine.device)])


def _together(one: Tensor, other: Tensor) -> Tensor:
    """The scatter of both sets of points (Chan, Golub and LeVeque 1983, American Statistician 37).

    Shapes: (d + 2, d): scatter, mean, count.
    """
    n, m = one[-1], other[-1]
    apart = other[-2] - one[-2]
    mean = one[-2] + apart * (m / (n + m))
    scatter = one[:-2] + other[:-2] + torch.outer(apart, apart) * (n * m / (n + m))
    return torch.cat([scatter, mean[None], (n + m)[None]])
