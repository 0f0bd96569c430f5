"""Scale grey images of any size to 28x28, as `fit=28` asks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.requests.invalid_upload import SIDE, InvalidUpload

LARGEST_SIDE = 1024
"""The most rows and columns of an image that is scaled."""

Grey = NDArray[np.uint8]


def fit(image: Grey) -> Grey:
    """Return a grey image [h, w] as [28, 28]: scaled with its proportions, and centred.

    What is left beside it gets the median brightness of its border. Images of 28x28 stay as they are.
    """
    height, width = image.shape
    if (height, width) == (SIDE, SIDE):
        return image
    scale = SIDE / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    # Bilinear scaling of Pillow averages over all pixels that become one, and makes none brighter or darker.
    small = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    fitted = np.full((SIDE, SIDE), int(np.median(border)), np.uint8)
    top, left = (SIDE - rows) // 2, (SIDE - columns) // 2
    fitted[top : top + rows, left : left + columns] = np.asarray(small)
    return fitted


@dataclass
class PixelBudget:
    """How many pixels of an upload may be scaled, so that a small file does not take hours."""

    left: int

    def spend(self, name: str, height: int, width: int) -> None:
        """Count a picture. Raises InvalidUpload once they are too many."""
        self.left -= height * width
        if self.left < 0:
            raise InvalidUpload(
                "payload_too_large",
                f"the pictures up to {name} have more pixels together than are scaled; make them smaller",
            )


def advise(height: int, width: int) -> str:
    """Return what a refusal of this size says to do."""
    if max(height, width) > LARGEST_SIDE:
        return f"make it {SIDE}x{SIDE}"
    return f"make it {SIDE}x{SIDE}, or have it scaled with ?fit={SIDE}"
