"""Sources of training batches: real examples, and draws of a network (generative replay)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from worker.learning.networks.network import Network
from worker.learning.strategy import Batch

Source = Callable[[int], Batch]  # number of examples -> a batch of that many, newly drawn
BATCH = 256  # examples of a source that are drawn at a time


def real_examples(
    images: Mapping[str, Tensor], slots: Mapping[str, int], generator: torch.Generator
) -> Source:
    """Make a source that samples real examples with replacement; every label is equally likely.

    images: label -> uint8 [n, pixels]; slots: label -> slot. Its batches are on the CPU.
    """
    names = sorted(images, key=lambda name: slots[name])
    pool = torch.cat([images[name] for name in names])
    sizes = torch.tensor([len(images[name]) for name in names])
    starts = sizes.cumsum(0) - sizes
    slot_of = torch.tensor([slots[name] for name in names])

    def draw(count: int) -> Batch:
        which = torch.randint(len(names), (count,), generator=generator)
        within = (torch.rand(count, generator=generator) * sizes[which]).long()
        return Batch(pool[starts[which] + within].float().div_(255), slot_of[which])

    return draw


def generative_replay(teacher: Network, slots: Sequence[int], generator: torch.Generator) -> Source:
    """Make a source of the teacher's mean images: c ~ U(slots), z ~ p(z | c), x = E[x | z, c].

    Its batches are on the teacher's device and include the latents z. slots: must not include a label to
    forget. Source: Shin et al. 2017 (arXiv:1705.08690); the paper, section 2.2.
    """
    slot_of = torch.tensor(sorted(slots))

    def draw(count: int) -> Batch:
        chosen = slot_of[torch.randint(len(slot_of), (count,), generator=generator)]
        on_device = chosen.to(teacher.prior_mean.device)
        with torch.no_grad():
            latents = teacher.sample_prior(teacher.noise(on_device, generator), on_device)
            return Batch(teacher.decode(latents, on_device).sigmoid(), on_device, latents)

    return draw


def interleave(
    sources: Sequence[tuple[Source, float]], batch_size: int, device: torch.device
) -> Iterator[list[Batch]]:
    """Yield the examples of each training step, endlessly: one batch from every source.

    sources: each with its relative share of the `batch_size` examples of a step; each gives at least one.
    """
    total = sum(share for _, share in sources)
    counts = [max(1, round(batch_size * share / total)) for _, share in sources]
    while True:
        yield [_on(device, source(count)) for (source, _), count in zip(sources, counts, strict=True)]


def draw_batches(
    source: Source, count: int, device: torch.device, batch_size: int = BATCH
) -> Iterator[Batch]:
    """Yield `count` examples of one source, in batches."""
    for start in range(0, count, batch_size):
        yield _on(device, source(min(batch_size, count - start)))


def _on(device: torch.device, batch: Batch) -> Batch:
    images, slots, latents = batch
    return Batch(images.to(device), slots.to(device), None if latents is None else latents.to(device))
