"""Where batches come from: real examples, the teacher's own draws (generative replay), and both together."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from worker.learning.networks.network import Network
from worker.learning.strategy import Batch

Source = Callable[[int], Batch]  # how many examples -> that many, freshly drawn


def real(images: Mapping[str, Tensor], slots: Mapping[str, int], generator: torch.Generator) -> Source:
    """Real examples, labels equally often. images: label -> uint8 [n, pixels]; slots: label -> slot."""
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


def replay(teacher: Network, slots: Sequence[int], generator: torch.Generator) -> Source:
    """The teacher's mean images for its labels, equally often: c ~ U(slots), z ~ p(z | c), x = E[x | z, c].

    Shin et al. 2017; the paper's section 2.2. The slots are decided by the caller, before the copy: a label
    to forget is never drawn.
    """
    slot_of = torch.tensor(sorted(slots))

    def draw(count: int) -> Batch:
        chosen = slot_of[torch.randint(len(slot_of), (count,), generator=generator)]
        here = chosen.to(teacher.prior_mean.device)
        with torch.no_grad():
            latents = teacher.sample_prior(teacher.noise(here, generator), here)
            return Batch(teacher.decode(latents, here).sigmoid(), here, latents)

    return draw


def interleave(
    sources: Sequence[tuple[Source, float]], batch_size: int, device: torch.device
) -> Iterator[list[Batch]]:
    """Steps of `batch_size` examples: a batch from each source, in fixed shares, one example at least."""
    total = sum(share for _, share in sources)
    counts = [max(1, round(batch_size * share / total)) for _, share in sources]
    while True:
        yield [_on(device, source(count)) for (source, _), count in zip(sources, counts, strict=True)]


def some(source: Source, count: int, device: torch.device, batch_size: int = 256) -> Iterator[Batch]:
    """`count` examples of one source, in batches."""
    for start in range(0, count, batch_size):
        yield _on(device, source(min(batch_size, count - start)))


def _on(device: torch.device, batch: Batch) -> Batch:
    images, slots, latents = batch
    return Batch(images.to(device), slots.to(device), None if latents is None else latents.to(device))
