"""Measure what resizing costs a model of real digits: predicted and measured loss, magnitude, growth.

    python -m benchmarks.resizing --json -

The model is the paper's network after it learned `--labels` with the default strategy in `--steps` steps. One
thread is used.

`spearman`                    rank correlation of predicted and measured loss change, over 30 random sets of 5
                              to 40 % of the units.
`spearman_same_size`          the same over 30 sets of 10 %, for which the size predicts nothing.
`taylor_loss_pp`              judged accuracy lost when 30 % of every hidden layer is removed by predicted
                              loss and nothing is trained. Means are added to the next bias.
`magnitude_loss_pp`           the same by the L2 norm of incoming weights; `ratio` is the quotient of both.
`taylor_network_loss_pp`      the same by predicted loss for 30 % of all hidden units together.
`expansion_output_change`     largest change of a pixel, on 1,000 (z, c), when half as many units are added.
`expansion_posterior_change`  largest change of a posterior's mean or logvar, on 1,000 (x, c), relative to the
                              largest value.
`expansion_without_gradient`  parameters of the new units that get no gradient in two steps.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.output import make_parser, write_figures
from experiments.running import add_data_option, data_folder
from experiments.significance import spearman
from worker.learning import datasets, drawing, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.judging.judge import load_judge
from worker.learning.judging.quick_report import measure_quick_report
from worker.learning.networks import blank, build, frozen
from worker.learning.strategy import Batch, Examples, TrainingContext
from worker.learning.units.removal import (
    Curvature,
    least_important_units,
    measure_curvature,
    measured_loss_change,
    predicted_loss_change,
    remove_units,
    replay_sample,
)
from worker.learning.units.resize import UnitMask, grow, prunable_layers, width
from worker.learning.units.targeted_dropout import smallest_share
from worker.process.devices import compute_reproducibly

CPU = torch.device("cpu")
SHARE, SETS, DRAWS = 0.3, 30, 2000


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--labels", default="01234", help="digits that the model learns; %(default)s")
    parser.add_argument("--steps", type=int, default=600, help="training steps of the model; %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    add_data_option(parser)
    options = parser.parse_args()
    compute_reproducibly(threads=1)
    context = TrainingContext(CPU, options.seed)
    checkpoint = learn(tuple(options.labels), options.steps, data_folder(options), context)
    write_figures(measure(checkpoint, context), options.json)


def learn(labels: tuple[str, ...], steps: int, data: Path, context: TrainingContext) -> Checkpoint:
    """Learn the labels of MNIST with the default strategy."""
    mnist = datasets.load("mnist", data)
    default = strategy.find("learn", "replay_ewc")
    examples = Examples(labels, "mnist", {name: mnist.train[name] for name in labels})
    params = default.Params.model_validate({"schedule": {"steps": steps}})
    return default.run(blank({}, seed=context.seed), examples, params, context)


def measure(checkpoint: Checkpoint, context: TrainingContext) -> dict[str, Any]:
    draws = replay_sample(checkpoint, DRAWS, context)
    began = time.perf_counter()
    curvature = measure_curvature(build(checkpoint, CPU), draws, context)
    chosen = least_important_units(curvature, SHARE, "layer")
    seconds = time.perf_counter() - began
    removals = {
        "taylor": chosen,
        "magnitude": smallest(checkpoint, SHARE),
        "taylor_network": least_important_units(curvature, SHARE, "network"),
    }
    before = accuracy(checkpoint, context.seed)
    smaller = {name: remove_units(checkpoint, removed, curvature) for name, removed in removals.items()}
    lost = {name: 100 * (before - accuracy(one, context.seed)) for name, one in smaller.items()}
    return {
        "spearman": correlate_losses(checkpoint, curvature, draws, context, low=0.05, high=0.4),
        "spearman_same_size": correlate_losses(checkpoint, curvature, draws, context, low=0.1, high=0.1),
        "accuracy": before,
        **{f"{name}_loss_pp": round(loss, 2) for name, loss in lost.items()},
        "ratio": round(lost["taylor"] / lost["magnitude"], 4),
        **{
            f"{name}_{kind}_nats": round(value, 2)
            for name in removals
            for kind, value in (
                ("predicted", predicted_loss_change(curvature, removals[name])),
                ("measured", measured_loss_change(checkpoint, smaller[name], draws, CPU)),
            )
        },
        "taylor_seconds": round(seconds, 3),
        **measure_expansion(checkpoint, draws, context),
        "threads": torch.get_num_threads(),
    }


def accuracy(checkpoint: Checkpoint, seed: int) -> float:
    report = measure_quick_report(checkpoint, load_judge, n=1000, seed=seed, draw=drawing.draw)
    return report.retained.measured_value


def smallest(checkpoint: Checkpoint, share: float) -> UnitMask:
    """Return the units to prune by magnitude: the share of every layer with the smallest incoming L2 norm."""
    norms = {
        layer.name: checkpoint.weights[f"{layer.name}.weight"].norm(dim=1)
        for layer in prunable_layers(checkpoint)
    }
    return {layer: smallest_share(norm, share) for layer, norm in norms.items()}


def correlate_losses(
    checkpoint: Checkpoint,
    curvature: Curvature,
    draws: Sequence[Batch],
    context: TrainingContext,
    *,
    low: float,
    high: float,
) -> float:
    """Return the rank correlation of predicted and measured loss change, over random sets of units.

    low, high: bounds of the share of the units in a set.
    """
    generator = context.generator("random sets of units")
    predicted, measured = [], []
    for _ in range(SETS):
        share = low + (high - low) * torch.rand(1, generator=generator).item()
        removed = {
            layer: torch.randperm(units, generator=generator) < share * units
            for layer, units in curvature.widths.items()
        }
        predicted.append(predicted_loss_change(curvature, removed))
        measured.append(
            measured_loss_change(checkpoint, remove_units(checkpoint, removed, curvature), draws, CPU)
        )
    return round(spearman(predicted, measured), 4)


def measure_expansion(
    checkpoint: Checkpoint, draws: Sequence[Batch], context: TrainingContext
) -> dict[str, float | int]:
    """Add half as many units; measure what that changes, and which new parameters get no gradient."""
    images, slots, latents = (torch.cat(parts)[:1000] for parts in zip(*draws, strict=True))
    larger = grow(checkpoint, 0.5, context.generator("expansion"))
    before, after = frozen(checkpoint, CPU), frozen(larger, CPU)
    pixels = [network.decode(latents, slots).sigmoid() for network in (before, after)]
    posteriors = [torch.cat(network.encode(images, slots), dim=1) for network in (before, after)]
    return {
        "expansion_output_change": largest_difference(*pixels),
        "expansion_posterior_change": largest_difference(*posteriors) / posteriors[0].abs().max().item(),
        "expansion_without_gradient": count_without_gradient(checkpoint, larger, images, slots, context),
    }


def largest_difference(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


def count_without_gradient(
    checkpoint: Checkpoint, larger: Checkpoint, images: Tensor, slots: Tensor, context: TrainingContext
) -> int:
    """Count the parameters of the new units that have no gradient in either of two steps."""
    network, generator = build(larger, CPU), context.generator("two steps")
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4)
    reached = {name: torch.zeros_like(one, dtype=torch.bool) for name, one in network.named_parameters()}
    for _ in range(2):
        optimiser.zero_grad()
        loss = negative_elbo(network, images, slots, network.noise(slots, generator)).mean()
        loss.backward()
        for name, parameter in network.named_parameters():
            reached[name] |= parameter.grad != 0
        optimiser.step()
    unreached = 0
    for layer in prunable_layers(checkpoint):
        old = width(checkpoint, layer)
        fresh = [
            reached[f"{layer.name}.weight"][old:],
            reached[f"{layer.name}.bias"][old:],
            reached[f"{layer.following}.weight"][:, old:],
        ]
        if f"{layer.name}.label" in reached:
            fresh.append(reached[f"{layer.name}.label"][:, old:])
        unreached += sum(int((~one).sum()) for one in fresh)
    return unreached


if __name__ == "__main__":
    main()
