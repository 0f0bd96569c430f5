"""Kuzushiji-MNIST (Clanuwat et al. 2018): one hiragana of each row of the syllabary, in old handwriting."""

from pathlib import Path

from worker.learning.datasets.dataset import Split, dataset
from worker.learning.datasets.torchvision_files import Collection, read

HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
KMNIST = Collection("KMNIST", HIRAGANA, train=60_000, test=10_000)


@dataset(
    "kmnist",
    title="Kuzushiji-MNIST: 70,000 handwritten hiragana",
    labels=KMNIST.labels,
    image_shape=(28, 28),
    bundled=False,
    files=KMNIST.train_files(),
)
def kmnist(folder: Path) -> tuple[Split, Split]:
    """Read 60,000 train and 10,000 test images from `folder`/KMNIST/raw."""
    return read(KMNIST, folder)
