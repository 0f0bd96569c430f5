"""Training a judge is one command, and its result a function of its arguments."""

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
from worker.learning.judging import train
from worker.learning.judging.classifiers import read_classifier
from worker.learning.judging.judge import JUDGE
from worker.learning.judging.train import train_judge
from worker.learning.judging.training_batches import Training

WEIGHTS_FILE = "digits.safetensors"


@lru_cache
def digits() -> Dataset:
    return load("digits", Path())


def test_the_same_seed_gives_the_same_files_and_another_seed_other_weights() -> None:
    first = train_judge(digits(), Training(seed=5, steps=2))
    torch.rand(7)  # another user of torch's global generator
    assert train_judge(digits(), Training(seed=5, steps=2)) == first
    assert train_judge(digits(), Training(seed=6, steps=2))[WEIGHTS_FILE] != first[WEIGHTS_FILE]


def test_training_and_measuring_leave_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train_judge(digits(), Training(steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_the_weights_do_not_depend_on_the_test_split() -> None:
    blank = {label: torch.zeros_like(images) for label, images in digits().test.items()}
    without_test = Dataset("digits", digits().labels, digits().image_shape, digits().train, blank)
    weights = [train_judge(one, Training(steps=2))[WEIGHTS_FILE] for one in (without_test, digits())]
    assert weights[0] == weights[1]


def test_the_command_stores_the_judge_beside_its_recipe_and_fails_when_a_threshold_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--dataset", "digits", "--data", str(tmp_path), "--out", str(tmp_path / "weights")]
    monkeypatch.setattr(sys, "argv", [*words, "--steps", "2", "--seed", "4"])
    assert train.main() == 1  # two steps are too few
    printed = json.loads(capsys.readouterr().out)
    recipe = json.loads((tmp_path / "weights" / "digits.json").read_text())
    assert "test_accuracy" in printed["missed"]
    assert printed["figures"] == recipe["figures"]
    assert recipe["training"]["seed"] == 4
    assert read_classifier(JUDGE, "digits", tmp_path / "weights").version == recipe["weights_sha256"]


def test_the_command_says_why_there_is_no_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--dataset", "letters", "--data", "."])
    with pytest.raises(SystemExit):
        train.main()
    assert "no dataset 'letters'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_judge_of_mnist_is_trained_and_measured_within_two_minutes_of_one_core(tmp_path: Path) -> None:
    real_mnist()  # skips where it is missing
    command = [sys.executable, "-m", "worker.learning.judging.train", "--dataset", "mnist"]
    command += ["--data", os.environ["PALIMPSEST_DATA"], "--out", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["cpu_seconds"] <= 120
