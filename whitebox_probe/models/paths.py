"""What stands at a path of a module, and which paths are near one that is not there."""

from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.offloaded import fetched


def found_at(module: nn.Module, path: str) -> Any:
    """What a module has at a path, such as `blocks.0.weight`; None where there is nothing."""
    owner, _, name = path.rpartition(".")
    try:
        part = module.get_submodule(owner)
        return fetched(part, name) if hasattr(part, name) else None
    except AttributeError:
        return None


def tensor_at(module: nn.Module, path: str) -> Tensor | None:
    """The parameter, buffer or other tensor at a path; None where there is none."""
    found = found_at(module, path)
    return found if isinstance(found, Tensor) else None


def nearest_paths(path: str, known: list[str]) -> str:
    """The nearest of many paths, not all of them."""
    from difflib import get_close_matches

    close = get_close_matches(path, known, n=5, cutoff=0.3) or known[:5]
    return f"Near it: {', '.join(close)}" if close else "Check the module"
