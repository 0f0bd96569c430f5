"""Trained judges and feature networks, in a folder and in a bucket."""

import json
from pathlib import Path

import pytest

from service.registry.classifier_files import DeletableClassifiers
from service.registry.opening import open_classifiers
from service.settings import Settings
from tests.conftest import STORE_KINDS

FILES = {"doodles.safetensors": b"weights"}


@pytest.fixture(params=STORE_KINDS)
def classifiers(request: pytest.FixtureRequest, tmp_path: Path) -> DeletableClassifiers:
    url = "" if request.param == "folder" else request.getfixturevalue("bucket_url")
    return open_classifiers(Settings(home=tmp_path, artifacts_url=url))


def trained_on(dataset: str, *labels: str) -> dict[str, bytes]:
    return {**FILES, "doodles.json": json.dumps({"dataset": dataset, "labels": labels}).encode()}


def is_there(classifiers: DeletableClassifiers, name: str) -> bool:
    try:
        return classifiers.find(name).joinpath("doodles.safetensors").read_bytes() == b"weights"
    except FileNotFoundError:
        return False


def test_a_classifier_is_found_by_its_name_until_it_is_removed(classifiers: DeletableClassifiers) -> None:
    assert not is_there(classifiers, "one")
    classifiers.add("one", trained_on("doodles", "ring"))
    assert is_there(classifiers, "one")
    assert not is_there(classifiers, "two")
    classifiers.remove("one")
    assert not is_there(classifiers, "one")


def test_the_first_of_two_that_were_trained_at_once_stays(classifiers: DeletableClassifiers) -> None:
    classifiers.add("one", trained_on("doodles", "ring"))
    classifiers.add("one", {"doodles.safetensors": b"others", "doodles.json": b"{}"})
    assert is_there(classifiers, "one")


def test_only_those_that_were_trained_on_the_images_of_a_label_are_deleted(
    classifiers: DeletableClassifiers,
) -> None:
    classifiers.add("affected", trained_on("doodles", "ring", "bar"))
    classifiers.add("without it", trained_on("doodles", "bar"))
    classifiers.add("of another dataset", trained_on("digits", "ring"))
    classifiers.add("damaged", {**FILES, "doodles.json": b"no JSON"})
    assert classifiers.delete_trained_on("doodles", ["ring", "line"]) == []
    left = [name for name in ("affected", "without it", "of another dataset", "damaged")
            if is_there(classifiers, name)]  # fmt: skip
    assert left == ["without it", "of another dataset", "damaged"]
