"""Sources of training batches: real examples, and draws of a network (generative replay)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from worker.learning.networks.network import Network
from worker.learning.strategy import Batch

Source = Callable[[int], Batch]  # number of examples -> a batch of that many, newly drawn
BATCH = 256  # examples of a source that are drawn at a time
POOLED = 16_384
"""How many draws a training takes its replay from, at most (docs/decisions/0160)."""
POOLED_FORGOTTEN = 4_096
"""The same for the labels forgotten earlier, whose draws have a small share of each step."""


def real_examples(
    images: Mapping[str, Tensor], slots: Mapping[str, int], generator: torch.Generator
) -> Source:
    """Make a source that samples real examples with replacement; every label is equally likely.

    images: label -> uint8 [n, pixels], n at least 1; slots: label -> slot. Its batches are on the CPU.
    Raises ValueError for a label without images: it would get those of the next label.
    """
    if empty := [name for name in images if not len(images[name])]:
        raise ValueError(f"there are no images of {', '.join(map(repr, empty))} to learn from")
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
            latents = teacher.sample_prior(teacher.prior_noise(on_device, generator), on_device)
            return Batch(teacher.decode(latents, on_device).sigmoid(), on_device, latents)

    return draw


def pooled(source: Source, count: int, generator: torch.Generator) -> Source:
    """Draw `count` examples of a source once, and make a source that samples from them with replacement.

    A training that needs several times as many examples saves the rest of the draws.
    """
    parts = [source(min(BATCH, count - start)) for start in range(0, count, BATCH)]
    pool = _joined(parts)

    def draw(count: int) -> Batch:
        rows = torch.randint(len(pool.slots), (count,), generator=generator)
        return pool.at(rows.to(pool.slots.device))

    return draw


def with_posteriors(source: Source, teacher: Network) -> Source:
    """Make a source of the same examples with the teacher's posterior of each."""

    def draw(count: int) -> Batch:
        batch = source(count)
        with torch.no_grad():
            return batch._replace(posterior=teacher.encode(batch.images, batch.slots))

    return draw


def _joined(parts: Sequence[Batch]) -> Batch:
    """Join batches that all have latents and posteriors, or all have none."""
    latents = [one.latents for one in parts if one.latents is not None]
    posteriors = [one.posterior for one in parts if one.posterior is not None]
    means, logvars = zip(*posteriors, strict=True) if posteriors else ((), ())
    return Batch(
        torch.cat([one.images for one in parts]),
        torch.cat([one.slots for one in parts]),
        torch.cat(latents) if latents else None,
        (torch.cat(means), torch.cat(logvars)) if posteriors else None,
    )


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
    latents = None if batch.latents is None else batch.latents.to(device)
    posterior = (
        None if batch.posterior is None else (batch.posterior[0].to(device), batch.posterior[1].to(device))
    )
    return Batch(batch.images.to(device), batch.slots.to(device), latents, posterior)
