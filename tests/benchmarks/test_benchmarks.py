"""Limits of the benchmarks, each run by its command. Speed depends on the machine: `make test-slow`."""

import itertools
import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.autograd.profiler import profile

from benchmarks.learning import STEPS, floor_by_phase, time_matrix_products, time_step_parts
from tests.datasets.real_mnist import real_mnist
from tests.learning.tiny import BRIEF, CPU, TINY, brief, examples, labels, run
from worker.learning.adversary import NAIVE_BATCH
from worker.learning.elbo import reconstruction_loss
from worker.learning.label_columns import LabelColumns
from worker.learning.networks import blank, build, frozen
from worker.learning.strategy import TrainingContext, find


def run_benchmark(benchmark: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--json", "-", *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stderr
    figures: dict[str, Any] = json.loads(run.stdout)
    return figures


@pytest.mark.slow
def test_the_fisher_is_exact_and_fast() -> None:
    figures = run_benchmark("fisher")
    assert figures["relative_error"] <= 1e-5
    assert figures["seconds_10k"] <= 5
    assert figures["seconds_50k"] <= 10


@pytest.mark.slow
def test_forgetting_beats_the_published_method_and_a_step_is_near_its_floor() -> None:
    real_mnist()
    figures = run_benchmark("learning")
    assert figures["published"]["extrapolated"], "and the figures say so"
    assert figures["forget_strategy"] == "surrogate", "the default for permanent labels"
    assert figures["speedup"] >= 20
    assert figures["step_over_floor"] <= 2.5
    assert {"1 thread float32", "2 threads float32", "1 thread bf16"} <= figures["variants_step_ms"].keys()
    compiled = [name for name in figures["variants_step_ms"] if name.endswith("compiled")]
    assert bool(compiled) == ("compiled" not in figures["compile_skipped"])
    jobs = figures["jobs"]
    assert {"cpu float32", "cpu bf16"} == jobs.keys()
    assert all(one["forgotten_open_accuracy"] <= 0.05 for one in jobs.values())
    assert all(one["retained_open_accuracy"] >= 0.95 for one in jobs.values())


def test_the_parts_of_a_step_add_up_to_the_step() -> None:
    """The clock shows how often it was read, so that a span that belongs to no part would be missing."""
    two_labels = run("learn", "replay_ewc", blank(TINY, seed=0, pixels=64), examples("rows", "columns"))
    network = build(two_labels, CPU)
    clock = itertools.count()
    spent = time_step_parts(
        network, two_labels, examples("rows", "columns"), CPU, clock=lambda: float(next(clock))
    )
    assert {len(ticks) for ticks in spent.values()} == {STEPS}
    read = next(clock)
    assert sum(map(sum, spent.values())) == read - 1


def test_every_phase_of_the_default_jobs_that_trains_has_a_floor() -> None:
    phases: set[str] = set()
    context = TrainingContext(CPU, 0, on_progress=lambda progress: phases.add(progress.phase))
    checkpoint = blank(TINY, seed=0, pixels=64)
    for strategy, given in (
        (find("learn", "replay_ewc"), examples("rows", "columns")),
        (find("forget", "surrogate"), labels("rows")),
    ):
        params = strategy.Params.model_validate(brief(strategy))
        checkpoint = strategy.run(checkpoint, given, params, context)
    assert floor_by_phase(checkpoint, CPU).keys() == phases - {"drawing replay", "measuring curvature"}


def multiplications(computed: profile) -> list[int]:
    """How many multiplications each matrix product took, in order of size."""
    shapes = [
        one.input_shapes[-2:] if one.name == "aten::mm" else one.input_shapes[1:3]
        for one in computed.function_events
        if one.name in ("aten::mm", "aten::addmm")
    ]
    return sorted(rows * inner * columns for (rows, inner), (_, columns) in shapes)


def test_the_floor_of_fitting_columns_is_what_a_step_of_it_multiplies() -> None:
    network = frozen(
        run("learn", "replay_ewc", blank(TINY, seed=0, pixels=64), examples("rows"), schedule=BRIEF), CPU
    )
    columns = LabelColumns(network, torch.ones(1, 1))
    rows = torch.zeros(NAIVE_BATCH, dtype=torch.long)
    latents, images = torch.rand(NAIVE_BATCH, network.latent), torch.rand(NAIVE_BATCH, network.pixels)
    with profile(record_shapes=True) as multiplied:
        loss = reconstruction_loss(columns.logits(latents, rows), images).sum()
        torch.autograd.grad(loss, columns.columns)
    with profile(record_shapes=True) as floor:
        time_matrix_products(network, NAIVE_BATCH, CPU, "decoder", trains_weights=False)
    assert multiplications(floor) == multiplications(multiplied)
    assert len(multiplications(floor)) == 5, "three layers forwards, two of them backwards"


@pytest.mark.slow
def test_removal_is_predicted_and_growth_changes_nothing() -> None:
    real_mnist()  # skips where it is missing
    figures = run_benchmark("resizing")
    assert figures["spearman"] >= 0.8
    assert figures["spearman_same_size"] >= 0.8
    assert figures["ratio"] <= 0.5
    assert figures["expansion_output_change"] <= 1e-6
    assert figures["expansion_posterior_change"] <= 1e-6
    assert figures["expansion_without_gradient"] == 0
