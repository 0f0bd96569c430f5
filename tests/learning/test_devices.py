"""Lower precision and a GPU give what float32 on the CPU gives, up to rounding."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from tests.learning.test_laws import every_strategy, likeness
from tests.learning.tiny import BRIEF, CPU, NETWORKS, QUICK, Start, TinyArchive, brief, examples, labels
from worker.learning.checkpoint import Checkpoint
from worker.learning.fisher import fisher_diagonal
from worker.learning.machine import machine_kind
from worker.learning.networks import blank, build, frozen
from worker.learning.sources import draw_batches, generative_replay
from worker.learning.strategy import TrainingContext, find
from worker.process.devices import choose_precision, compute_reproducibly

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("SKIPPED LOUDLY: there is no CUDA device here, so nothing was shown about one")
    if request.param == "cuda":
        compute_reproducibly(threads=1)  # as a worker does: what is not deterministic is an error there
    return torch.device(request.param)


def history(architecture: str, context: TrainingContext, schedule: Mapping[str, Any] = QUICK) -> Checkpoint:
    """Learn, forget, prune: the three ways of training."""
    learn, forget, prune = (
        find(*names)
        for names in (
            ("learn", "replay_ewc"),
            ("forget", "surrogate"),
            ("resize", "targeted_dropout_prune"),
        )
    )
    steps = [(learn, examples("rows", "columns")), (learn, examples("frame"))]
    steps += [(forget, labels("rows")), (prune, labels())]
    checkpoint = blank(NETWORKS[architecture], seed=0, pixels=64)
    for strategy, given in steps:
        params = strategy.Params.model_validate({"schedule": schedule, "fisher_examples": 200})
        checkpoint = strategy.run(checkpoint, given, params, context)
    return checkpoint


@pytest.mark.parametrize("architecture", ["mlp", pytest.param("conv", marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_retained_is_drawn_and_what_is_forgotten_is_not(
    architecture: str, device: torch.device, precision: torch.dtype
) -> None:
    after = history(architecture, TrainingContext(device, 0, TinyArchive(architecture), precision=precision))
    assert likeness(after, "columns") < 0.1
    assert likeness(after, "frame") < 0.1
    assert likeness(after, "rows") > 0.2
    assert {tensor.dtype for tensor in after.weights.values()} == {torch.float32}
    assert {tensor.device.type for tensor in after.weights.values()} == {"cpu"}


@every_strategy
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.gpu
def test_every_strategy_runs_on_a_gpu(
    operation: str, name: str, precision: torch.dtype, start: Start
) -> None:
    """`den` adds and splits units, whatever its training finds."""
    if not torch.cuda.is_available():
        pytest.skip("SKIPPED LOUDLY: there is no CUDA device here, so nothing was shown about one")
    compute_reproducibly(threads=1)
    found, architecture = find(operation, name), start.checkpoint.spec.architecture
    sent = brief(found)
    if name == "den":
        sent |= {"tolerance": 0, "column_l1": 0, "drift": 0, "added_units": 2}
    worker = TrainingContext(torch.device("cuda"), 0, TinyArchive(architecture), precision=precision)
    after = found.run(start.checkpoint, start.given, found.Params.model_validate(sent), worker)
    assert all(tensor.isfinite().all() for tensor in after.weights.values())
    assert {tensor.device.type for tensor in after.weights.values()} == {"cpu"}


def test_lower_precision_is_deterministic_too_and_not_the_same(device: torch.device) -> None:
    low, again, full = (
        history("mlp", TrainingContext(device, 0, TinyArchive(), precision=precision), BRIEF).to_bytes()
        for precision in (torch.bfloat16, torch.bfloat16, torch.float32)
    )
    assert low == again != full


def test_a_teacher_draws_in_its_precision(learnt: Checkpoint, device: torch.device) -> None:
    full, low, again = (
        generative_replay(
            frozen(learnt, device, precision=precision), [0, 1], torch.Generator().manual_seed(0)
        )(100).images
        for precision in (torch.float32, torch.bfloat16, torch.bfloat16)
    )
    assert torch.equal(low, again)
    assert not torch.equal(full, low)
    assert (full - low).abs().mean() < 0.01


def test_the_fisher_and_the_draws_agree_with_the_cpu(learnt: Checkpoint, device: torch.device) -> None:
    drawn, fishers = [], []
    for place in (CPU, device):
        network = build(learnt, place)
        source = generative_replay(network, [0, 1], torch.Generator().manual_seed(0))
        batches = list(draw_batches(source, 100, place))
        drawn.append(torch.cat([batch.images for batch in batches]).cpu())
        fishers.append(fisher_diagonal(network, batches, torch.Generator().manual_seed(1)))
    assert torch.allclose(drawn[0], drawn[1], atol=1e-4)
    for name in fishers[0]:
        assert torch.allclose(fishers[0][name], fishers[1][name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("instructions", [{}, {"avx512_bf16": True}, {"amx_bf16": True}])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_lower_precision_is_used_if_it_is_named_or_the_cpu_has_instructions_for_it(
    instructions: dict[str, bool], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_f": True, **instructions})
    faster = device == "cpu" and bool(instructions)
    assert choose_precision("auto", torch.device(device)) is (torch.bfloat16 if faster else torch.float32)
    assert choose_precision("float32", torch.device(device)) is torch.float32
    assert choose_precision("bfloat16", torch.device(device)) is torch.bfloat16


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({}, "bfloat16 (no instructions for it)"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16 (avx512_bf16)"),
        ({"avx512_bf16": True, "amx_bf16": True}, "bfloat16 (amx_bf16, avx512_bf16)"),
        ({"bf16": True, "sve_bf16": True}, "bfloat16 (bf16, sve_bf16)"),
    ],
)
def test_the_kind_of_a_machine_names_the_instructions_that_compute_bfloat16(
    found: dict[str, bool], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their kernels round differently, and float32 does not use them."""
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_f": True, "cpu_name": "any", **found})
    assert machine_kind(CPU, torch.bfloat16).endswith(f" threads, {named}")
    assert machine_kind(CPU).endswith(" threads, float32")
