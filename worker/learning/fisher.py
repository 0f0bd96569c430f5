"""The exact diagonal of the empirical Fisher information, and the EWC penalty that uses it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from worker.learning.elbo import negative_elbo
from worker.learning.networks.network import LayerCall, Network
from worker.learning.strategy import Batch

VALUES_AT_ONCE = 2**23  # limit on float32 values of a convolution's patches or per-example gradients: 32 MiB

EwcStrength = Annotated[
    float,
    Field(
        ge=0,
        le=1e6,
        description="Strength lambda of the EWC penalty lambda/2 sum F (theta - theta*)^2, which is added "
        "to a loss in nats per example. 0 switches the penalty off.",
    ),
]

Fisher = Mapping[str, Tensor]
"""Parameter name -> diagonal of the Fisher information, of the parameter's shape."""


def fisher_diagonal(
    network: Network, batches: Iterable[Batch], generator: torch.Generator
) -> dict[str, Tensor]:
    """Compute F_i = E over (x, c) of (d ELBO(x | theta, c) / d theta_i)^2.

    The gradient is squared per example, then averaged. For a linear layer, sum_n (dL_n/dW)^2 =
    (D * D)^T (A * A), with L_n the -ELBO of example n, D the gradients at the pre-activation, [batch, out], A
    the layer's input, [batch, in], and * elementwise; for its bias, the column sums of D * D. A convolution
    shares its kernel between positions, so each per-example gradient is summed over positions before it is
    squared. Each example gets one latent sample, and no unit is dropped. Returns CPU tensors named like the
    network's parameters, in nats^2 per squared unit. Source: Kirkpatrick et al. 2017 (EWC, arXiv:1612.00796);
    the paper, section 2.2.
    """
    examples, sums = 0, SquaredGradients(network)
    for batch in batches:
        sums.add(batch, generator)
        examples += len(batch.slots)
    return sums.mean(examples)


class SquaredGradients:
    """The sums of squared per-example gradients of the ELBO, which a loop over batches adds to."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.totals = {name: torch.zeros_like(tensor) for name, tensor in network.named_parameters()}

    def add(self, batch: Batch, generator: torch.Generator) -> None:
        """Add the squared gradients of every example of the batch, with one latent sample each."""
        network, calls = self._network, list[LayerCall]()
        with _with_gradients(network):
            noise = network.noise(batch.slots, generator)
            loss = negative_elbo(network, batch.images, batch.slots, noise, calls=calls).sum()
            gradients = torch.autograd.grad(loss, [call.preactivation for call in calls])
            for call, gradient in zip(calls, gradients, strict=True):
                _accumulate(self.totals, network, call, gradient, batch.slots)

    def mean(self, examples: int) -> dict[str, Tensor]:
        """Return the mean over so many examples: parameter name -> CPU tensor of its shape."""
        return {name: (total / max(examples, 1)).cpu() for name, total in self.totals.items()}


def _accumulate(
    totals: dict[str, Tensor], network: Network, call: LayerCall, gradient: Tensor, slots: Tensor
) -> None:
    # gradient: at the pre-activation, [batch, out] or [batch, out, height, width]
    if f"{call.layer}.weight" not in totals:  # an embedding that a hypernetwork starts from
        totals[f"{call.layer}.label"].index_add_(0, slots, gradient.square())
        return
    inputs, weight = call.inputs.detach(), totals[f"{call.layer}.weight"]
    if gradient.dim() == 2:
        squared = gradient.square()
        weight.addmm_(squared.T, inputs.square())
    else:
        layer, positions = network.get_submodule(call.layer), gradient[0, 0].numel()
        at_once = max(1, VALUES_AT_ONCE // max(weight.numel(), weight[0].numel() * positions))
        parts = (torch.split(one, at_once) for one in (gradient, inputs))
        for gradients, seen in zip(*parts, strict=True):
            patches = _patches(layer, seen).transpose(1, 2)
            by_example = torch.bmm(gradients.flatten(2), patches)  # [some, out, in * kernel]
            weight.add_(by_example.square_().sum(dim=0).view_as(weight))
        squared = gradient.sum(dim=(2, 3)).square()
    totals[f"{call.layer}.bias"].add_(squared.sum(dim=0))
    if f"{call.layer}.label" in totals:
        totals[f"{call.layer}.label"].index_add_(0, slots, squared)


def _patches(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Unfold an input into the patches that the kernel covers: [batch, in * kernel, positions]."""
    if not isinstance(layer, nn.Conv2d) or isinstance(layer.padding, str):
        raise TypeError(f"the exact Fisher information of this layer is not implemented: {layer}")
    return functional.unfold(inputs, layer.kernel_size, padding=layer.padding, stride=layer.stride)


@contextmanager
def _with_gradients(network: Network) -> Iterator[None]:
    # Gradients at the pre-activations need an autograd graph, even if the network is a frozen teacher.
    before = {tensor: tensor.requires_grad for tensor in network.parameters()}
    try:
        network.requires_grad_(True)
        yield
    finally:
        for tensor, required in before.items():
            tensor.requires_grad_(required)


def quadratic_penalty(
    network: Network, anchor: Mapping[str, Tensor], fisher: Fisher | None, strength: float
) -> Callable[[], Tensor]:
    """Make the EWC penalty, lambda/2 sum_i F_i (theta_i - theta*_i)^2, in nats per example.

    anchor: theta*, by parameter name. fisher: F, as `fisher_diagonal` returns it: a mean over examples. If it
    is None, the penalty is 0. strength: lambda.
    Source: Kirkpatrick et al. 2017 (EWC, arXiv:1612.00796); the paper, section 2.2.
    """
    parameters = dict(network.named_parameters())
    device = network.prior_mean.device
    if fisher is None or strength == 0:
        return lambda: torch.zeros((), device=device)
    terms = [
        (parameters[name], anchor[name].to(device), (strength * fisher[name]).to(device))
        for name in parameters
    ]
    return lambda: torch.stack([_Quadratic.apply(*term) for term in terms]).sum()


class _Quadratic(torch.autograd.Function):
    """1/2 sum F (theta - theta*)^2 and its gradient, in two passes over memory instead of six."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, anchor: Tensor, weight: Tensor) -> Tensor:
        displacement = parameter - anchor
        gradient = weight * displacement
        ctx.save_for_backward(gradient)
        return 0.5 * torch.dot(gradient.flatten(), displacement.flatten())

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None
