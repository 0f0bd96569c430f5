"""EMNIST (Cohen et al. 2017): handwritten digits and letters, in two of its six splits.

Its files store every image with rows and columns swapped; the readers swap them back.
"""

from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

from worker.learning.datasets.dataset import Split, dataset
from worker.learning.datasets.torchvision_files import Collection, read

DISTINCT_LOWERCASE = "abdefghnqrt"  # the other letters look like their capitals and share their label
BALANCED = Collection(
    "EMNIST",
    tuple(digits + ascii_uppercase + DISTINCT_LOWERCASE),
    train=112_800,
    test=18_800,
    split="balanced",
    transposed=True,
)
LETTERS = Collection(
    "EMNIST",
    tuple(ascii_lowercase),
    train=124_800,
    test=20_800,
    split="letters",
    first_target=1,  # its authors count letters from 1
    transposed=True,
)


@dataset(
    "emnist",
    title="EMNIST, balanced: 131,600 handwritten digits, capitals and the lower-case letters unlike them",
    labels=BALANCED.labels,
    image_shape=(28, 28),
    bundled=False,
    files=BALANCED.train_files(),
)
def emnist(folder: Path) -> tuple[Split, Split]:
    """Read 112,800 train and 18,800 test images, equally many of each label, from `folder`/EMNIST/raw."""
    return read(BALANCED, folder)


@dataset(
    "emnist_letters",
    title="EMNIST, letters: 145,600 handwritten letters, capitals and lower case as one label",
    labels=LETTERS.labels,
    image_shape=(28, 28),
    bundled=False,
    files=LETTERS.train_files(),
)
def emnist_letters(folder: Path) -> tuple[Split, Split]:
    """Read 124,800 train and 20,800 test images, equally many of each letter, from `folder`/EMNIST/raw."""
    return read(LETTERS, folder)
