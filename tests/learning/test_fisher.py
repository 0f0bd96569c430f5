import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from worker.learning import fisher
from worker.learning.checkpoint import Spec
from worker.learning.elbo import negative_elbo
from worker.learning.fisher import fisher_diagonal, quadratic_penalty
from worker.learning.networks.conv import Conv
from worker.learning.networks.mlp import Mlp
from worker.learning.networks.network import Network
from worker.learning.strategy import Batch


def network(encoder=(7, 5), decoder=(4, 6), slots=3) -> Mlp:
    built = Mlp(Spec("mlp", tuple(encoder), tuple(decoder), latent=2, slots=slots, pixels=10)).double()
    built.initialise(torch.Generator().manual_seed(1))
    for layer in (built.encoder[0], built.decoder[0]):
        layer.label.data.normal_(generator=torch.Generator().manual_seed(2))
    return built


def batch(count: int, slots: int = 3, pixels: int = 10) -> Batch:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(count, pixels, generator=generator, dtype=torch.float64)
    return Batch(images, torch.randint(slots, (count,), generator=generator))


def one_example_at_a_time(network: Network, batches: list[Batch], generator: torch.Generator):
    """The slow and obvious Fisher: one backward an example, squared, then averaged."""
    totals = {name: torch.zeros_like(tensor) for name, tensor in network.named_parameters()}
    count = 0
    for one in batches:
        noise = network.noise(one.slots, generator)
        for i in range(len(one.slots)):
            network.zero_grad()
            alone = slice(i, i + 1)
            negative_elbo(network, one.images[alone], one.slots[alone], noise[alone]).sum().backward()
            for name, tensor in network.named_parameters():
                totals[name] += tensor.grad.square()
            count += 1
    return {name: total / count for name, total in totals.items()}


@settings(max_examples=15, deadline=None)
@given(
    encoder=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    decoder=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
def test_fast_fisher_equals_one_example_at_a_time(encoder, decoder, sizes):
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
def test_fast_fisher_of_a_convolutional_network_equals_one_example_at_a_time(encoder, decoder, side):
    built = Conv(Spec("conv", encoder, decoder, latent=2, slots=3, pixels=side**2)).double()
    built.initialise(torch.Generator().manual_seed(1))
    for layer in (built.encoder[0], built.decoder[0]):
        layer.label.data.normal_(generator=torch.Generator().manual_seed(2))
    batches = [batch(size, pixels=side**2) for size in (3, 1)]
    fast = fisher_diagonal(built, batches, torch.Generator().manual_seed(9))
    slow = one_example_at_a_time(built, batches, torch.Generator().manual_seed(9))
    for name in slow:
        assert torch.allclose(fast[name], slow[name], rtol=1e-10, atol=1e-14), name


class Largest(TorchDispatchMode):
    """The most values that any operation makes while it is entered."""

    values = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        if operation in (torch.ops.aten.im2col.default, torch.ops.aten.bmm.default):
            self.values = max(self.values, made.numel())
        return made


def test_the_fisher_of_convolutions_is_the_same_in_parts_that_fit_into_memory(monkeypatch):
    built = Conv(Spec("conv", (4, 5, 6), (6, 5, 4), latent=2, slots=3, pixels=64)).double()
    built.initialise(torch.Generator().manual_seed(1))
    batches = [batch(50, pixels=64)]
    whole = fisher_diagonal(built, batches, torch.Generator().manual_seed(9))
    monkeypatch.setattr(fisher, "VALUES_AT_ONCE", 5000)
    with Largest() as largest:
        parts = fisher_diagonal(built, batches, torch.Generator().manual_seed(9))
    assert 2500 < largest.values <= 5000
    for name in whole:
        assert torch.allclose(parts[name], whole[name], rtol=1e-12, atol=1e-16), name


def test_fisher_is_not_the_square_of_the_batch_gradient():
    """The common mistake, wrong by about the batch size."""
    built, one = network(), batch(32)
    found = fisher_diagonal(built, [one], torch.Generator().manual_seed(9))
    noise = built.noise(one.slots, torch.Generator().manual_seed(9))
    negative_elbo(built, one.images, one.slots, noise).mean().backward()
    mistaken = built.decoder[-1].weight.grad.square().sum()
    assert found["decoder.2.weight"].sum() > 2 * mistaken


def test_fisher_of_a_frozen_teacher_leaves_it_frozen():
    built = network().requires_grad_(False)
    fisher_diagonal(built, [batch(3)], torch.Generator())
    assert not any(tensor.requires_grad for tensor in built.parameters())


def test_a_label_that_was_not_drawn_has_no_fisher():
    built, one = network(), batch(20, slots=2)
    found = fisher_diagonal(built, [one], torch.Generator().manual_seed(9))
    assert found["encoder.0.label"][2].abs().sum() == 0
    assert found["encoder.0.label"][0].abs().sum() > 0


def test_penalty_and_its_gradient_are_those_of_the_formula():
    built = network()
    anchor = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in built.state_dict().items()}
    fisher = {name: torch.rand_like(tensor) for name, tensor in built.named_parameters()}
    quadratic_penalty(built, anchor, fisher, 3.0)().backward()
    expected = sum(
        1.5 * (fisher[name] * (tensor - anchor[name]).square()).sum()
        for name, tensor in built.named_parameters()
    )
    assert quadratic_penalty(built, anchor, fisher, 3.0)().item() == pytest.approx(expected.item())
    for name, tensor in built.named_parameters():
        assert torch.allclose(tensor.grad, 3.0 * fisher[name] * (tensor - anchor[name])), name


def test_penalty_is_zero_at_its_anchor_and_without_a_memory():
    built = network()
    fisher = {name: torch.ones_like(tensor) for name, tensor in built.named_parameters()}
    assert quadratic_penalty(built, built.state_dict(), fisher, 5.0)().item() == 0
    assert quadratic_penalty(built, built.state_dict(), None, 5.0)().item() == 0
