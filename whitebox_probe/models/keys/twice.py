"""Two tensors of a file that are one of the network's."""

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.lines import shown


def twice(name: str, key: str) -> CheckpointError:
    """The error of two tensors of a file that have one name in the network.

    Args: name: in the network. key: of one of them in the file.
    """
    return CheckpointError(
        f"two tensors of the file are '{shown(name)}' of the network",
        f"one of them is '{shown(key)}'",
        "Leave out the one that does not belong to it",
    )
