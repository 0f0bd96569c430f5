"""A classifier that shares nothing with the product's judge: another architecture, seed and training.

The judge decides what the product reports. Whether that is true, another classifier has to say. This one is a
small residual network, trained on real images that the measured model may not have seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, pad

from worker.learning.judging.augmentations import blur
from worker.learning.judging.negatives import draw_negatives

SEED = 20_261
BATCH, NEGATIVES = 128, 16
"""Real images and negatives of a step."""
STEPS, QUICK_STEPS = 800, 20
LEARNING_RATE, WEIGHT_DECAY, LABEL_SMOOTHING = 4e-3, 0.05, 0.05
SHIFT = 2
"""By how many pixels an image is shifted at most."""
BLURRED = 0.3
"""Share of the images that are blurred, because a decoder's images are softer than real ones."""
FEATURES = 96
CHUNK = 500


@dataclass(frozen=True)
class IndependentClassifier:
    """A trained classifier of a dataset's labels, which can also answer that an image shows none of them."""

    labels: tuple[str, ...]
    network: nn.Sequential  # images [n, 784] in [0, 1] -> logits [n, labels + 1], the last one rejects

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Return the features of images [n, 784] in [0, 1]: the last hidden layer, [n, FEATURES]."""
        hidden = self.network[:-1]
        return torch.cat([hidden(chunk) for chunk in torch.split(images, CHUNK)])

    @torch.no_grad()
    def recognised(self, features: Tensor, label: str, *, may_reject: bool = False) -> float:
        """Return the share of images, by their features, whose likeliest label is this one.

        may_reject: whether "none of the labels" is an answer, too.
        """
        logits = self.network[-1](features)
        answers = logits if may_reject else logits[:, :-1]
        share: float = answers.argmax(dim=1).eq(self.labels.index(label)).float().mean().item()
        return share


def train_classifier(images_of: Mapping[str, Tensor], *, steps: int = STEPS) -> bytes:
    """Train a classifier on real images (label -> uint8 [n, 784]); return its weights as safetensors."""
    rng = Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = _architecture(len(images_of))
    sizes = torch.tensor([len(images) for images in images_of.values()])
    pool, starts = torch.cat(list(images_of.values())), sizes.cumsum(0) - sizes
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        targets = torch.randint(len(sizes), (BATCH,), generator=rng)  # every label equally often
        within = (torch.rand(BATCH, generator=rng) * sizes[targets]).long()
        images = pool[starts[targets] + within].float() / 255
        negatives = draw_negatives(images, targets, NEGATIVES, rng)
        rejected = torch.full((len(negatives),), len(sizes))
        logits = network(torch.cat([_augment(images, rng), negatives]))
        loss = cross_entropy(logits, torch.cat([targets, rejected]), label_smoothing=LABEL_SMOOTHING)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})


def restore_classifier(labels: tuple[str, ...], weights: bytes) -> IndependentClassifier:
    """Build the classifier with these weights, in evaluation mode."""
    network = _architecture(len(labels))
    network.load_state_dict(load(weights))
    return IndependentClassifier(labels, network.eval().requires_grad_(False))


def _augment(images: Tensor, rng: Generator) -> Tensor:
    """Shift every image by up to SHIFT pixels, the same for all of a step, and blur some of them."""
    right, down = torch.randint(2 * SHIFT + 1, (2,), generator=rng).tolist()
    square = pad(images.view(-1, 28, 28), (SHIFT, SHIFT, SHIFT, SHIFT))
    shifted = square[:, down : down + 28, right : right + 28].flatten(1)
    sigma = 0.3 + 0.7 * torch.rand(len(images), generator=rng)
    is_blurred = torch.rand(len(images), 1, generator=rng) < BLURRED
    return torch.where(is_blurred, blur(shifted, sigma), shifted)


def _architecture(labels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        *_convolution(1, 24, stride=2),  # 14 x 14
        _Residual(24),
        *_convolution(24, 48, stride=2),  # 7 x 7
        _Residual(48),
        nn.Flatten(),
        nn.Linear(48 * 49, FEATURES),
        nn.GELU(),
        nn.Linear(FEATURES, labels + 1),
    ).to(memory_format=torch.channels_last)


class _Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*_convolution(channels, channels), *_convolution(channels, channels)[:2])

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.gelu(images + self.inner(images))


def _convolution(inputs: int, outputs: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.GELU()
