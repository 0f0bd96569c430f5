"""Training a judge is one command, and a function of its arguments."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from tests.datasets.real_mnist import real_mnist
from worker.learning.datasets import Dataset, load
from worker.learning.judging import train as subject
from worker.learning.judging.judge import read_judge
from worker.learning.judging.train import recipe_of, trained
from worker.learning.judging.training_batches import Training


@lru_cache
def digits() -> Dataset:
    return load("digits", Path())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = trained(digits(), Training(seed=5, steps=2))
    torch.rand(7)  # what others draw must not matter
    assert trained(digits(), Training(seed=5, steps=2)) == first
    assert trained(digits(), Training(seed=6, steps=2)) != first


def test_training_and_measuring_leave_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    recipe_of(trained(digits(), Training(steps=1)), digits(), Training(steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_the_test_split_teaches_nothing() -> None:
    blank = {label: torch.zeros_like(images) for label, images in digits().test.items()}
    blinded = Dataset("digits", digits().labels, digits().image_shape, digits().train, blank)
    assert trained(blinded, Training(steps=2)) == trained(digits(), Training(steps=2))


def test_the_command_keeps_the_judge_beside_its_recipe_and_fails_when_a_bar_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--dataset", "digits", "--data", str(tmp_path), "--out", str(tmp_path / "weights")]
    monkeypatch.setattr(sys, "argv", [*words, "--steps", "2", "--seed", "4"])
    assert subject.main() == 1  # two steps make no judge
    printed = json.loads(capsys.readouterr().out)
    recipe = json.loads((tmp_path / "weights" / "digits.json").read_text())
    assert "test_accuracy" in printed["missed"]
    assert printed["figures"] == recipe["figures"]
    assert recipe["training"]["seed"] == 4
    assert read_judge("digits", tmp_path / "weights").version == recipe["weights_sha256"]


def test_the_command_says_why_there_is_no_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--dataset", "letters", "--data", "."])
    with pytest.raises(SystemExit):
        subject.main()
    assert "no dataset 'letters'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_judge_of_mnist_is_trained_and_measured_within_two_minutes_of_one_core(tmp_path: Path) -> None:
    real_mnist()  # skips where it is missing
    command = [sys.executable, "-m", "worker.learning.judging.train", "--dataset", "mnist"]
    command += ["--data", os.environ["PALIMPSEST_DATA"], "--out", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["cpu_seconds"] <= 120
