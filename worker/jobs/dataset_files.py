"""Copy the files of datasets from the bucket to the data folder of a worker that has no such files yet.

Whoever runs the service puts them there once, as they lie in a data folder: `datasets/MNIST/raw/...`. Then a
worker needs neither a shared folder nor a download.
"""

from pathlib import Path

from service import durable
from service.registry.store import Store

FOLDER = "datasets"


def fetch(store: Store, folder: Path, collection: str) -> None:
    """Copy the files of a collection that the bucket has and the folder lacks. Raises OSError.

    collection: the name of its folder, such as `MNIST`.
    """
    for file in store.list(f"{FOLDER}/{collection}"):
        path = folder / file.name.removeprefix(f"{FOLDER}/")
        if not path.exists():
            durable.write(path, store.read(file.name))
