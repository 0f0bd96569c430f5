"""The exact Fisher information against the slow way to compute it, and the EWC penalty."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from worker.learning import fisher
from worker.learning.checkpoint import Spec
from worker.learning.elbo import negative_elbo
from worker.learning.fisher import fisher_diagonal, quadratic_penalty
from worker.learning.networks.conv import Conv
from worker.learning.networks.hyper import Hyper
from worker.learning.networks.mlp import Mlp
from worker.learning.networks.network import Network
from worker.learning.strategy import Batch


def network(encoder: Sequence[int] = (7, 5), decoder: Sequence[int] = (4, 6)) -> Network:
    return initialised(Mlp(Spec("mlp", tuple(encoder), tuple(decoder), latent=2, slots=3, pixels=10)))


def initialised(network: Network) -> Network:
    """The network in float64, with random weights and label embeddings."""
    network.double()
    network.initialise(torch.Generator().manual_seed(1))
    for name, tensor in network.named_parameters():
        if name.endswith(".label"):
            tensor.data.normal_(generator=torch.Generator().manual_seed(2))
    return network


def batch(count: int, slots: int = 3, pixels: int = 10) -> Batch:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(count, pixels, generator=generator, dtype=torch.float64)
    return Batch(images, torch.randint(slots, (count,), generator=generator))


def one_example_at_a_time(
    network: Network, batches: list[Batch], generator: torch.Generator
) -> dict[str, Tensor]:
    """The slow and obvious Fisher information: one backward pass an example, squared, then averaged."""
    totals = {name: torch.zeros_like(tensor) for name, tensor in network.named_parameters()}
    count = 0
    for one in batches:
        noise = network.noise(one.slots, generator)
        for i in range(len(one.slots)):
            network.zero_grad()
            row = slice(i, i + 1)
            negative_elbo(network, one.images[row], one.slots[row], noise[row]).sum().backward()
            for name, tensor in network.named_parameters():
                totals[name] += gradient_of(tensor).square()
            count += 1
    return {name: total / count for name, total in totals.items()}


def gradient_of(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


@settings(max_examples=15, deadline=None)
@given(
    encoder=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    decoder=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
def test_fast_fisher_equals_one_example_at_a_time(
    encoder: list[int], decoder: list[int], sizes: list[int]
) -> None:
    built = network(encoder, decoder)
    batches = [batch(size) for size in sizes]
    fast = fisher_diagonal(built, batches, torch.Generator().manual_seed(9))
    slow = one_example_at_a_time(built, batches, torch.Generator().manual_seed(9))
    assert fast.keys() == slow.keys()
    for name in slow:
        assert torch.allclose(fast[name], slow[name], rtol=1e-10, atol=1e-14), name


@settings(max_examples=8, deadline=None)
@given(
    encoder=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)),
    decoder=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)),
    side=st.sampled_from([4, 8]),
)
def test_fast_fisher_of_a_convolutional_network_equals_one_example_at_a_time(
    encoder: list[int], decoder: list[int], side: int
) -> None:
    built = initialised(Conv(Spec("conv", tuple(encoder), tuple(decoder), latent=2, slots=3, pixels=side**2)))
    batches = [batch(size, pixels=side**2) for size in (3, 1)]
    fast = fisher_diagonal(built, batches, torch.Generator().manual_seed(9))
    slow = one_example_at_a_time(built, batches, torch.Generator().manual_seed(9))
    for name in slow:
        assert torch.allclose(fast[name], slow[name], rtol=1e-10, atol=1e-14), name


def test_fast_fisher_of_generated_weights_equals_one_example_at_a_time() -> None:
    """Of the shared matrices, of the hypernetworks and of the embeddings."""
    built = initialised(Hyper(Spec("hyper", (5, 3), (4, 6), latent=2, slots=3, pixels=10)))
    batches = [batch(size) for size in (4, 1)]
    fast = fisher_diagonal(built, batches, torch.Generator().manual_seed(9))
    slow = one_example_at_a_time(built, batches, torch.Generator().manual_seed(9))
    assert fast.keys() == slow.keys()
    for name in slow:
        assert torch.allclose(fast[name], slow[name], rtol=1e-10, atol=1e-14), name


class Largest(TorchDispatchMode):
    """While it is active, records the most values that a patch or gradient operation made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.im2col.default, torch.ops.aten.bmm.default):
            self.values = max(self.values, made.numel())
        return made


def test_the_fisher_of_convolutions_is_the_same_in_parts_that_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = initialised(Conv(Spec("conv", (4, 5, 6), (6, 5, 4), latent=2, slots=3, pixels=64)))
    batches = [batch(50, pixels=64)]
    whole = fisher_diagonal(built, batches, torch.Generator().manual_seed(9))
    monkeypatch.setattr(fisher, "VALUES_AT_ONCE", 5000)
    with Largest() as largest:
        parts = fisher_diagonal(built, batches, torch.Generator().manual_seed(9))
    assert 2500 < largest.values <= 5000
    for name in whole:
        assert torch.allclose(parts[name], whole[name], rtol=1e-12, atol=1e-16), name


def test_the_fisher_is_not_the_square_of_the_batch_gradient() -> None:
    """The common mistake, wrong by about the batch size."""
    built, one = network(), batch(32)
    found = fisher_diagonal(built, [one], torch.Generator().manual_seed(9))
    noise = built.noise(one.slots, torch.Generator().manual_seed(9))
    negative_elbo(built, one.images, one.slots, noise).mean().backward()
    mistaken = gradient_of(built.get_parameter("decoder.2.weight")).square().sum()
    assert found["decoder.2.weight"].sum() > 2 * mistaken


def test_fisher_of_a_frozen_teacher_leaves_it_frozen() -> None:
    built = network().requires_grad_(False)
    fisher_diagonal(built, [batch(3)], torch.Generator())
    assert not any(tensor.requires_grad for tensor in built.parameters())


def test_a_label_that_was_not_drawn_has_no_fisher() -> None:
    built, one = network(), batch(20, slots=2)
    found = fisher_diagonal(built, [one], torch.Generator().manual_seed(9))
    assert found["encoder.0.label"][2].abs().sum() == 0
    assert found["encoder.0.label"][0].abs().sum() > 0


def test_the_penalty_and_its_gradient_are_those_of_the_formula() -> None:
    built = network()
    anchor = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in built.state_dict().items()}
    fisher = {name: torch.rand_like(tensor) for name, tensor in built.named_parameters()}
    quadratic_penalty(built, anchor, fisher, 3.0)().backward()
    terms = [fisher[name] * (tensor - anchor[name]).square() for name, tensor in built.named_parameters()]
    expected = 1.5 * sum(term.sum().item() for term in terms)
    assert quadratic_penalty(built, anchor, fisher, 3.0)().item() == pytest.approx(expected)
    for name, tensor in built.named_parameters():
        assert torch.allclose(gradient_of(tensor), 3.0 * fisher[name] * (tensor - anchor[name])), name


def test_the_penalty_is_zero_at_its_anchor_and_without_a_fisher() -> None:
    built = network()
    fisher = {name: torch.ones_like(tensor) for name, tensor in built.named_parameters()}
    assert quadratic_penalty(built, built.state_dict(), fisher, 5.0)().item() == 0
    assert quadratic_penalty(built, built.state_dict(), None, 5.0)().item() == 0
