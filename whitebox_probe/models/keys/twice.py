"""The tensors of a file under the names of the network, where no two may have one name."""

from torch import Tensor

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.lines import shown


class Renamed(dict[str, Tensor]):
    """Tensors by their new names; of a name that is given twice, neither tensor would be right."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, str] = {}

    def put(self, name: str, key: str, tensor: Tensor) -> None:
        """Keep a tensor of the file, which calls it `key`, as `name`.

        Raises: CheckpointError where another tensor has the name.
        """
        if name in self:
            raise twice(name, self._keys[name], key)
        self[name], self._keys[name] = tensor, key


def twice(name: str, one: str, other: str) -> CheckpointError:
    """The error of two tensors of a file, `one` and `other`, that have one name in the network."""
    return CheckpointError(
        f"two tensors of the file are '{shown(name)}' of the network",
        f"the file calls them '{shown(one)}' and '{shown(other)}'",
        "Leave out the one that does not belong to it",
    )
