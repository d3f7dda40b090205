"""Why timm's other networks are of no family: the part that keeps them out."""

from typing import Any

from torch import nn

_WHY = {
    "Xcit": "its attention is between channels (cross-covariance), and no map is tokens by tokens",
    "VisionTransformerSAM": "its attention is in windows of a grid of tokens, and most layers "
    "attend in no one map",
    "TNT": "it has two streams of tokens, of pixels and of patches",
    "CrossVit": "it has two streams of tokens, of large and of small patches",
    "ConVit": "its class token joins in after some layers, whose attention mixes positions and "
    "contents",
    "Gemma4VitEncoder": "its values are normalised in each head, and no projections of the tokens",
    "Gemma4VitClassifier": "its values are normalised in each head, and no projections of the "
    "tokens",
    "MlpMixer": "it has no attention: tokens are mixed by an MLP",
    "VOLO": "its first layers attend in small windows (outlook attention), and its width changes",
}


def reason(module: nn.Module) -> str | None:
    """What keeps a network of timm out of the families; None for any other module."""
    ours = [kind for kind in type(module).__mro__ if kind.__module__.startswith("timm.models.")]
    if not ours:
        return None
    told = next((_WHY[kind.__name__] for kind in ours if kind.__name__ in _WHY), None)
    if told is not None:
        return told
    widths = _widths(module)
    if len(widths) > 1:
        told = ", ".join(map(str, widths))
        return f"its stages have tokens of several widths ({told}), and one width is measured"
    return "its blocks are of a kind that is not known"


def _widths(module: Any) -> list[int]:
    """The widths of its stages, as timm tells them."""
    told = getattr(module, "feature_info", None)
    told = getattr(told, "info", told)
    if not isinstance(told, list):
        return []
    stages = [each for each in told if isinstance(each, dict)]
    return sorted({each["num_chs"] for each in stages if "num_chs" in each})
