"""The same architecture with random weights."""

from whitebox_probe.probing.null import Null


class RandomWeights(Null):
    """The network as it is before training, with another draw of its weights."""

    kind = "random_weights"
    text = "the same architecture with random weights"
    replaces = "weights"
    usual = True
