"""The Adam optimiser, bit for bit as torch.optim.Adam(fused=True) computes it (Kingma & Ba 2015).

This class replaces torch.optim.Adam because the first torch.optim optimiser of a process imports torch's
compiler, which nothing here uses. That import took 6.3 s of CPU in every worker before its first step; the
rest of torch took 4.8 s.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam


class Moments(NamedTuple):
    """Adam's state for one tensor: running means of its gradient and of the squared gradient."""

    mean: Tensor
    square: Tensor
    steps: Tensor


class Adam:
    """Adam over groups of tensors; each group has its own learning rate."""

    def __init__(self, groups: Iterable[Sequence[Tensor]], *, beta2: float = 0.999) -> None:
        """beta2: how much of the mean of squared gradients a step keeps, in [0, 1)."""
        self.groups = [list(group) for group in groups]
        self._beta2 = beta2
        self._moments: dict[Tensor, Moments] = {}

    def zero_grad(self) -> None:
        """Drop the gradient of every tensor."""
        for group in self.groups:
            for tensor in group:
                tensor.grad = None

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """Update every tensor that has a gradient. rates: one learning rate for each group, in order."""
        for group, rate in zip(self.groups, rates, strict=True):
            with_gradient = [tensor for tensor in group if tensor.grad is not None]
            moments = [self._moments_of(tensor) for tensor in with_gradient]
            adam(
                with_gradient,
                [tensor.grad for tensor in with_gradient if tensor.grad is not None],
                [one.mean for one in moments],
                [one.square for one in moments],
                [],
                [one.steps for one in moments],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=self._beta2,
                lr=rate,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )

    def state(self) -> dict[str, Any]:
        """Return the moments of the tensors that have some, by the index of the tensor in all groups."""
        tensors = [tensor for group in self.groups for tensor in group]
        return {
            str(index): self._moments[tensor]._asdict()
            for index, tensor in enumerate(tensors)
            if tensor in self._moments
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Set the moments to what `state` returned."""
        tensors = [tensor for group in self.groups for tensor in group]
        for index, saved in state.items():
            for name, moment in self._moments_of(tensors[int(index)])._asdict().items():
                moment.copy_(saved[name])

    def _moments_of(self, tensor: Tensor) -> Moments:
        if tensor not in self._moments:
            steps = torch.zeros((), device=tensor.device)
            self._moments[tensor] = Moments(torch.zeros_like(tensor), torch.zeros_like(tensor), steps)
        return self._moments[tensor]
