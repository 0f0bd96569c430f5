"""Forgetting with most weights held still: only those that carry the forgotten labels may move."""

from collections.abc import Callable, Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.memory import consolidated
from worker.learning.networks import build
from worker.learning.networks.network import Network
from worker.learning.replay import replay, some
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.unlearning.surrogate import MappingParams, map_onto_surrogate


class SaliencyParams(MappingParams):
    share: float = Field(0.5, gt=0, le=1, description="parameters that may move, of all")
    saliency_examples: int = Field(
        2_000, ge=1, le=1_000_000, description="draws the gradient of the forgotten is averaged over"
    )


@strategy("forget", "saliency", SaliencyParams, source="SalUn (Fan et al. 2024)")
def forget(
    checkpoint: Checkpoint, examples: Examples, params: SaliencyParams, context: TrainingContext
) -> Checkpoint:
    """Forget by training onto a surrogate only the weights that are salient for the forgotten labels.

    Minimises the loss of `surrogate`, without EWC and pruning, over the top share of the parameters by
    |d/d theta E over c in U, x ~ p(x | theta*, c) of -ELBO(x | theta, c)| at theta*. All others stay bit for
    bit: the update is masked and not the gradient, so this holds whatever the optimiser adds to a gradient.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    gone = [target.forgotten[name] for name in examples.labels]
    network = build(target, context.device)
    salient = top_share(gradient(network, gone, params.saliency_examples, context), params.share)
    hold = held_outside(salient, network)
    map_onto_surrogate(network, target, examples.labels, params, context, after_step=hold)
    return consolidated(target, network, context, examples=params.fisher_examples)


def gradient(
    network: Network, slots: Sequence[int], examples: int, context: TrainingContext
) -> dict[str, Tensor]:
    """The gradient of the mean -ELBO of the network's own draws of `slots`, parameter name -> tensor."""
    generator = context.generator("saliency")
    parameters = dict(network.named_parameters())
    totals = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    seen = 0
    for batch in some(replay(network, slots, generator), examples, context.device):
        context.step("saliency", seen, examples)
        noise = network.noise(batch.slots, generator)
        loss = negative_elbo(network, batch.images, batch.slots, noise).sum() / examples
        found = torch.autograd.grad(loss, list(parameters.values()))
        for total, part in zip(totals.values(), found, strict=True):
            total += part
        seen += len(batch.slots)
    return totals


def top_share(gradients: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Where the largest `share` of all values by magnitude are, over all tensors together; one at least."""
    magnitudes = torch.cat([tensor.abs().flatten() for tensor in gradients.values()])
    chosen = torch.zeros_like(magnitudes, dtype=torch.bool)
    count = max(1, round(share * len(magnitudes)))
    chosen[magnitudes.argsort(descending=True, stable=True)[:count]] = True
    parts = torch.split(chosen, [tensor.numel() for tensor in gradients.values()])
    return {name: part.view_as(gradients[name]) for name, part in zip(gradients, parts, strict=True)}


def held_outside(salient: Mapping[str, Tensor], network: Network) -> Callable[[], None]:
    """What puts every value of the network outside `salient` back to what it is now."""
    held = [
        (parameter, parameter.detach().clone(), salient[name])
        for name, parameter in network.named_parameters()
    ]

    @torch.no_grad()
    def put_back() -> None:
        for parameter, before, may_move in held:
            parameter.copy_(torch.where(may_move, parameter, before))

    return put_back
