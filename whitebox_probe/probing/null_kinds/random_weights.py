"""The same architecture with random weights."""

from whitebox_probe.probing.null import Null


class RandomWeights(Null):
    """The network as it is before training, with another draw of its weights."""

    kind = "random_weights"
    text = "the same architecture with random weights"
    replaces = "weights"
    usual = True
    exempt = {
        "shape": "weights are drawn by the network's own initialisation, not by this file",
        "drawing": "weights are drawn by the network's own initialisation, not by this file",
        "independent": "one network is drawn, and all of its layers and sites are this network's",
    }
