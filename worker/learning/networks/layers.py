"""Layers that are conditional on the label: each may have a label embedding table, one row for every slot."""

import torch
from torch import Tensor, nn


class ConditionalLinear(nn.Linear):
    """A linear layer with an optional label embedding, [slots, out], which is added to its output.

    This equals appending the one-hot code of the label to the input."""

    def __init__(self, in_features: int, out_features: int, slots: int | None = None) -> None:
        super().__init__(in_features, out_features)
        self.label = None if slots is None else nn.Parameter(torch.zeros(slots, out_features))

    def forward(self, inputs: Tensor, slots: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(inputs)
        return out if self.label is None or slots is None else out + self.label[slots]


class ConditionalConv2d(nn.Conv2d):
    """A 3 x 3 convolution with an optional label embedding, [slots, out], added to every position."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, slots: int | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1)
        self.label = None if slots is None else nn.Parameter(torch.zeros(slots, out_channels))

    def forward(self, inputs: Tensor, slots: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(inputs)
        return out if self.label is None or slots is None else out + self.label[slots][:, :, None, None]
