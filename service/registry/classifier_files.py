"""The judges and feature networks that were trained here, for datasets without committed ones.

They are kept by a name that is a hash of all that they depend on, so whoever has that name has the right one.
Workers train and read them. The sweeper deletes those that were trained on images that are deleted.
"""

import json
import shutil
import zipfile
from collections.abc import Collection, Mapping
from importlib.resources.abc import Traversable
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from service import durable
from service.registry.store import Store

FOLDER, SUFFIX = "judges", ".zip"
"""Where they lie in a bucket: each is one object, so that its files appear together."""


class ClassifierFiles(Protocol):
    """The files of trained classifiers, by name, as a worker uses them. Every method raises OSError."""

    def find(self, name: str) -> Traversable:
        """Return the folder with the files of a classifier; it is empty or missing if there is none."""

    def add(self, name: str, files: Mapping[str, bytes]) -> None:
        """Store the files durably, all of them or none. What is there already stays as it is."""

    def remove(self, name: str) -> None:
        """Delete a classifier, if there is one."""


class DeletableClassifiers(ClassifierFiles, Protocol):
    """The same, as the sweeper uses them."""

    def delete_trained_on(self, dataset: str, labels: Collection[str]) -> list[str]:
        """Delete those that were trained on images of one of the labels. Returns why something is left."""


class ClassifierFolder:
    """Classifiers in a folder, each in one of its own. Several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Path:
        return self.folder / name

    def add(self, name: str, files: Mapping[str, bytes]) -> None:
        durable.create_folder(self.folder / name, files)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def delete_trained_on(self, dataset: str, labels: Collection[str]) -> list[str]:
        for recipe in self.folder.glob("*/*.json"):  # unfinished ones, too
            try:
                is_affected = _was_trained_on(json.loads(recipe.read_text()), dataset, labels)
            except (OSError, ValueError, KeyError, TypeError):  # being written, or deleted meanwhile
                continue
            if is_affected:
                shutil.rmtree(recipe.parent)
                durable.sync_folder(self.folder)
        return []


class ClassifierObjects:
    """Classifiers in a bucket. None is written to a disk."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, name: str) -> Traversable:
        try:
            return zipfile.Path(self._read(_object(name)))
        except (FileNotFoundError, zipfile.BadZipFile):
            return zipfile.Path(zipfile.ZipFile(BytesIO(), "w"))

    def add(self, name: str, files: Mapping[str, bytes]) -> None:
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file, data in files.items():
                archive.writestr(zipfile.ZipInfo(file), data)
        self._store.write(_object(name), packed.getvalue(), replace=False)

    def remove(self, name: str) -> None:
        self._store.delete([_object(name)])

    def delete_trained_on(self, dataset: str, labels: Collection[str]) -> list[str]:
        affected = []
        for file in self._store.list(FOLDER):
            try:
                archive = self._read(file.name)
                recipe = next(name for name in archive.namelist() if name.endswith(".json"))
                if _was_trained_on(json.loads(archive.read(recipe)), dataset, labels):
                    affected.append(file.name)
            except (FileNotFoundError, zipfile.BadZipFile, StopIteration, ValueError, KeyError, TypeError):
                continue  # deleted meanwhile, or damaged
        return list(self._store.delete(affected).values())

    def _read(self, name: str) -> zipfile.ZipFile:
        return zipfile.ZipFile(BytesIO(b"".join(self._store.read(name))))


def _was_trained_on(recipe: Mapping[str, Any], dataset: str, labels: Collection[str]) -> bool:
    return recipe["dataset"] == dataset and not set(recipe["labels"]).isdisjoint(labels)


def _object(name: str) -> str:
    return f"{FOLDER}/{name}{SUFFIX}"
