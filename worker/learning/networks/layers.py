"""Layers that the label can enter: each may have a label table, with one row for every slot."""

import torch
from torch import Tensor, nn


class ConditionalLinear(nn.Linear):
    """A linear layer that may have a label table: a bias for each slot, the columns of a one-hot code."""

    def __init__(self, in_features: int, out_features: int, slots: int | None = None) -> None:
        super().__init__(in_features, out_features)
        self.label = None if slots is None else nn.Parameter(torch.zeros(slots, out_features))

    def forward(self, inputs: Tensor, slots: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(inputs)
        return out if self.label is None or slots is None else out + self.label[slots]


class ConditionalConv2d(nn.Conv2d):
    """A 3 x 3 convolution that may have a label table: for each slot, a bias a channel."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, slots: int | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=1)
        self.label = None if slots is None else nn.Parameter(torch.zeros(slots, out_channels))

    def forward(self, inputs: Tensor, slots: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(inputs)
        return out if self.label is None or slots is None else out + self.label[slots][:, :, None, None]
