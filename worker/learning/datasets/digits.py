"""The handwritten digits bundled with scikit-learn, resampled to look like MNIST. Needs no download.

1,797 images of 8x8 cells, each cell the count (0..16) of inked pixels in a 4x4 block of a 32x32 scan
(Alpaydin and Kaynak 1998). MNIST has white ink on black, 28x28 pixels, the ink's longer side 20 pixels, its
centre of mass in the middle of the frame (LeCun et al. 1998).
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from worker.learning.datasets.dataset import Split, by_label, dataset, split_every_fifth

DIGITS = tuple("0123456789")
FRAME = 28
INK_SIDE = 20  # pixels of the ink box's longer side
INK_LEVEL = 0.25  # a pixel at least this bright belongs to the ink box


@dataset(
    "digits",
    title="Digits: 1,797 handwritten digits bundled with scikit-learn",
    labels=DIGITS,
    image_shape=(FRAME, FRAME),
    bundled=True,
)
def digits(_folder: Path) -> tuple[Split, Split]:
    """Read about 1,440 train and 357 test images: every fifth of each label is a test image."""
    # This import takes two seconds, so only a job that reads digits makes it.
    from sklearn.datasets import load_digits

    source = load_digits()
    images = like_mnist(torch.from_numpy(source.images).float() / 16)
    every = by_label(images, torch.from_numpy(source.target), DIGITS)
    return split_every_fifth(every)


def like_mnist(cells: Tensor) -> Tensor:
    """Resample cells [n, 8, 8] in [0, 1] to uint8 [n, 28, 28], centred and scaled like MNIST's images.

    They are resampled twice: first at 2.5 pixels a cell, only to measure where the ink is, then at the scale
    and the centre that follow from that.
    """
    count = len(cells)
    draft = _resample(cells, scale=torch.full((count,), INK_SIDE / 8), centre=torch.full((count, 2), 4.0))
    side, middle = _ink(draft)
    scale = INK_SIDE / 8 * INK_SIDE / side
    images = _resample(cells, scale, centre=4.0 + (middle - FRAME / 2) / (INK_SIDE / 8))
    return (images * 255).round().to(torch.uint8)


def _resample(cells: Tensor, scale: Tensor, centre: Tensor) -> Tensor:
    """Resample cells [n, 8, 8] to frames [n, 28, 28]. scale: [n], pixels a cell; centre: [n, 2], in cells."""
    theta = torch.zeros(len(cells), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = FRAME / (8 * scale)
    theta[:, :, 2] = centre / 4 - 1
    grid = affine_grid(theta, [len(cells), 1, FRAME, FRAME], align_corners=False)
    smooth = grid_sample(cells[:, None], grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return _sharpen(smooth[:, 0].clamp(0, 1))


def _sharpen(images: Tensor) -> Tensor:
    """Sharpen the edges that upsampling has blurred, so that they look like pen strokes."""
    return ((images - 0.5) * 1.8 + 0.42).clamp(0, 1)


def _ink(images: Tensor) -> tuple[Tensor, Tensor]:
    """Measure the ink box's longer side, [n], and the centre of mass, [n, 2] as (x, y); in pixels."""
    inked = images >= INK_LEVEL
    side = torch.stack([_extent(inked.any(1)), _extent(inked.any(2))]).amax(0)
    at = torch.arange(FRAME) + 0.5
    mass = images.sum((1, 2))
    middle = torch.stack([(images.sum(1) * at).sum(1) / mass, (images.sum(2) * at).sum(1) / mass], dim=1)
    return side, middle


def _extent(inked: Tensor) -> Tensor:
    """Count from the first to the last True of each row [n, size], both included."""
    at = torch.arange(inked.shape[1]).expand_as(inked)
    last = at.masked_fill(~inked, -1).amax(1)
    first = at.masked_fill(~inked, inked.shape[1]).amin(1)
    return (last - first + 1).float()
