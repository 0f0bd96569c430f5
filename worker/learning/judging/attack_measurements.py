"""Attack one network's weights for a label, the same for a candidate and for every reference.

These attacks take too long for a full report; `experiments.audit` makes them (docs/decisions/0153). Each of
them ends with images. Three things are measured of these: the share that the judge recognises as the label,
their closeness to the label's real test images, and the share of them among these in the judge's features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn.functional import cosine_similarity

from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.audit_measurements import CPU, AuditSetup
from worker.learning.judging.auxiliary_training import AuxiliaryTraining, train_on_auxiliary
from worker.learning.judging.closeness import closeness
from worker.learning.judging.column_search import ColumnSearch, search_columns
from worker.learning.judging.coverage import Neighbourhoods
from worker.learning.judging.few_shot import FewShots, fit_columns
from worker.learning.judging.quick_report import Draw
from worker.learning.judging.unit_probe import reconstruct_from_units
from worker.learning.networks import frozen
from worker.learning.strategy import TrainingContext

AUXILIARY_DRAWS = 300
"""Draws of the label after each part of a training on auxiliary data."""
PROBED_IMAGES = 200


@dataclass(frozen=True)
class Attacks:
    """How much is spent on each attack, and what they are given."""

    auxiliary: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Name of the auxiliary data -> label -> uint8 [n, pixels]; see `train_on_auxiliary`."""
    search: ColumnSearch = field(default_factory=ColumnSearch)
    shots: FewShots = field(default_factory=FewShots)
    training: AuxiliaryTraining = field(default_factory=AuxiliaryTraining)


def measure_attacks(
    checkpoint: Checkpoint, setup: AuditSetup, attacks: Attacks, draw: Draw, context: TrainingContext
) -> dict[str, float]:
    """Make all attacks on the network; return their figures by name.

    `ATTACK_share` is the share of images that the judge recognises, `ATTACK_cosine` their mean closeness, and
    `ATTACK_precision` the share that lies in the neighbourhood of a real test image (Kynkaanniemi et al.
    2019), in features of the judge, which no attack maximises. The attacks are `drawn` (the network's own
    draws of the label), `free_column` (`search_columns`, all its columns), `best_column` (the one whose draws
    the feature network finds likeliest), `few_shot_N` with N images (`fit_columns`), and `auxiliary_NAME`,
    whose figures are the largest after any part of the training. `few_shot_N_nats` is -ELBO of a held-out
    image, and `units_cosine` that of real images to their reconstruction by the decoder's units.
    Deterministic for the context's seed.
    """
    name, network = setup.label.name, frozen(checkpoint, CPU)
    slot, kept = checkpoint.label(name).slot, sorted(checkpoint.retained.values())
    real = Neighbourhoods.of(setup.judge.embed(setup.others.float() / 255))

    def shown(attack: str, images: Tensor) -> dict[str, float]:
        return {
            f"{attack}_share": setup.hits(images) / len(images),
            f"{attack}_cosine": closeness(images, setup.others).mean().item(),
            f"{attack}_precision": (real.depths(setup.judge.embed(images)) > 0).float().mean().item(),
        }

    own = draw(checkpoint, name, setup.draws, context.with_seed_for(f"draws of {name}").seed)
    found = search_columns(
        network,
        slot,
        kept,
        label=setup.label.source,
        feature_network=setup.feature_network,
        search=attacks.search,
        context=context,
    )
    figures = shown("drawn", own) | shown("free_column", found.flatten(0, 1))
    figures |= shown("best_column", found[_likeliest(found, setup)])
    fitted = fit_columns(
        network, slot, kept, setup.members, setup.others, shots=attacks.shots, context=context
    )
    for size, one in fitted.items():
        figures |= shown(f"few_shot_{size}", one.draws) | {f"few_shot_{size}_nats": one.nats}
    probed = setup.others[:PROBED_IMAGES]
    reconstructed = reconstruct_from_units(network, probed)
    if reconstructed is not None:
        figures["units_cosine"] = _mean_cosine(reconstructed, probed)
    for data, images in attacks.auxiliary.items():
        after = [
            shown(
                f"auxiliary_{data}",
                draw(trained, name, AUXILIARY_DRAWS, context.with_seed_for("auxiliary draws").seed),
            )
            for trained in train_on_auxiliary(
                checkpoint, images, attacks.training, context.with_seed_for(f"auxiliary data: {data}")
            )
        ]
        figures |= {figure: max(one[figure] for one in after) for figure in after[0]}
    return figures


def _likeliest(found: Tensor, setup: AuditSetup) -> int:
    """The column whose draws, found [columns, draws, pixels], the feature network finds likeliest."""
    losses = [
        setup.feature_network.negative_log_probability(one, setup.label.source).mean().item() for one in found
    ]
    return losses.index(min(losses))


def _mean_cosine(images: Tensor, real: Tensor) -> float:
    """The mean cosine of each image to the real one of the same index."""
    return cosine_similarity(images, real.float() / 255).mean().item()
