"""The table of a pass, whatever its length is and however it is told."""

import torch

import whitebox_probe as wp
from tests.conftest import small_crate

COUNT = 1100  # more than the rows that a stream of unknown length begins with


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, images):
        self.images = images

    def __iter__(self):
        return iter(self.images)


def test_a_stream_of_unknown_length_gives_the_rows_of_the_same_array():
    images = torch.randn(COUNT, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model = wp.wrap(small_crate(), name="crate")
    options = {"metrics": ["l0", "coding_rate"], "progress": False, "batch_size": 50}
    whole = wp.probe(model, images, **options)
    loader = torch.utils.data.DataLoader(Stream(images), batch_size=50)
    streamed = wp.probe(model, loader, **options)
    assert len(streamed.samples) == COUNT
    for name in ("l0", "coding_rate"):
        assert (streamed.values(name) == whole.values(name)).all()
