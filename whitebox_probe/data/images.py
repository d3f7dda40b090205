"""Images of one array, with their labels; how an image is prepared is in `models/images.py`."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from whitebox_probe.data import _digest
from whitebox_probe.models.images import CROP_MODES as CROP_MODES
from whitebox_probe.models.images import RESAMPLING as RESAMPLING
from whitebox_probe.models.images import Transform as Transform
from whitebox_probe.models.images import eight_bits as eight_bits
from whitebox_probe.models.images import image_transform as image_transform


class ImageArray(Dataset[tuple[Tensor, int]]):
    """Images of one array, (N, H, W) or (N, H, W, 3) of bytes, with their labels."""

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Transform
    ) -> None:
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The prepared image and its label."""
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])

    def identify(self, index: int) -> int:
        """What tells the image apart, before it is prepared."""
        return _digest.of_sample(self.images[index])

    def classify(self, index: int) -> int:
        """The image's label."""
        return int(self.labels[index])
