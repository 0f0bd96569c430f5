"""The attacks on the weights find a label that a decoder still holds, and not one that it never saw."""

from dataclasses import replace

import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from tests.learning.tiny import CPU, NETWORKS, context, examples, run, stripes
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.elbo import negative_elbo
from worker.learning.judging.alignment import misalignment
from worker.learning.judging.attack_measurements import Attacks, measure_attacks
from worker.learning.judging.audit_measurements import AuditSetup
from worker.learning.judging.auxiliary_training import AuxiliaryTraining, train_on_auxiliary
from worker.learning.judging.closeness import closeness
from worker.learning.judging.column_search import ColumnSearch, search_columns
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.judging.few_shot import FewShot, FewShots, fit_columns
from worker.learning.judging.judge import Judge
from worker.learning.judging.recovery import Search
from worker.learning.judging.relearning import RelearningSetup
from worker.learning.judging.unit_probe import reconstruct_from_units
from worker.learning.label_columns import LabelColumns, starting_shares
from worker.learning.networks import blank, frozen
from worker.learning.prior import reset_prior
from worker.learning.slots import with_slots
from worker.learning.training import Schedule

LABELS = ("rows", "columns", "frame", "blot")
REAL = stripes("blot", 60)
SEARCH = ColumnSearch(columns=4, latents=8, steps=60, draws=20)
SHOTS = FewShots(sizes=(1, 5), sets=3, steps=60, held_out=20, held_out_steps=60, draws=20)


@pytest.fixture(scope="module")
def never() -> Checkpoint:
    """A network with an empty slot for the label `blot`, which it never saw."""
    start = blank(NETWORKS["mlp"], seed=0, pixels=64)
    return with_slots(run("learn", "retrain", start, examples(*LABELS[:3])), ["blot"], "stripes", "forgotten")


@pytest.fixture(scope="module")
def learned() -> Checkpoint:
    return run("learn", "retrain", blank(NETWORKS["mlp"], seed=0, pixels=64), examples(*LABELS))


@pytest.fixture(scope="module")
def hidden(learned: Checkpoint) -> Checkpoint:
    """A network that learned the label; only its own column and its prior were emptied."""
    others = {label: learned.label(label).slot for label in LABELS[:3]}
    emptied = with_slots(learned.with_status(["blot"], "forgotten"), ["blot"], "stripes", "forgotten")
    assert emptied.retained == others
    return emptied


@pytest.fixture(scope="module")
def templates() -> FeatureNetwork:
    """A classifier that compares an image with the mean image of each label."""
    means = torch.stack([stripes(label).float().mean(0) / 255 for label in LABELS])
    linear = nn.Linear(64, 5)
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[:4] = 20 * normalize(means - means.mean(0), dim=1)
        linear.bias.zero_()
    network = nn.Sequential(linear).requires_grad_(False)
    return FeatureNetwork(LABELS, network, version="templates", test_accuracy=1.0)


def searched(checkpoint: Checkpoint, templates: FeatureNetwork) -> Tensor:
    """The draws [columns, draws, pixels] that a column search for the label ends with."""
    slots = sorted(checkpoint.retained.values())
    network, slot = frozen(checkpoint, CPU), checkpoint.label("blot").slot
    return search_columns(
        network,
        slot,
        slots,
        label="blot",
        feature_network=templates,
        search=SEARCH,
        context=context(),
    )


def fitted(checkpoint: Checkpoint) -> dict[int, FewShot]:
    network, slot = frozen(checkpoint, CPU), checkpoint.label("blot").slot
    held = sorted(checkpoint.retained.values())
    return fit_columns(network, slot, held, stripes("blot"), REAL, shots=SHOTS, context=context())


def nearness(images: Tensor) -> float:
    return closeness(images.flatten(0, -2), REAL).mean().item()


def test_closeness_is_the_largest_cosine_to_a_real_image() -> None:
    images = torch.rand(7, 64, generator=torch.Generator().manual_seed(0))
    by_hand = [max(float(cosine_similarity(one, real.float(), dim=0)) for real in REAL) for one in images]
    assert closeness(images, REAL).tolist() == pytest.approx(by_hand, abs=1e-5)
    assert closeness(REAL.float() / 255, REAL).tolist() == pytest.approx([1.0] * len(REAL))
    assert closeness(torch.zeros(1, 64), REAL).item() == 0


@pytest.mark.parametrize("architecture", ["mlp", "conv", "hyper"])
def test_a_column_that_is_a_slots_own_draws_and_measures_what_the_network_does(architecture: str) -> None:
    checkpoint = run(
        "learn",
        "retrain",
        blank(NETWORKS[architecture], seed=0, pixels=64),
        examples("rows", "blot"),
        schedule={"steps": 10, "batch_size": 16},
    )
    network, slots = frozen(checkpoint, CPU), torch.tensor([1, 0, 1])
    columns = LabelColumns(network, torch.eye(2))
    latents = torch.randn(3, network.latent, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(columns.draw(latents, slots), network.decode(latents, slots).sigmoid(), atol=1e-6)
    reset_prior(network, 0)
    reset_prior(network, 1)
    images = torch.cat([stripes("rows", 1), stripes("blot", 2)]).float() / 255
    expected = negative_elbo(network, images, slots, latents)
    found = columns.negative_elbo(images, slots, *network.encode(images, slots), latents)
    assert torch.allclose(found, expected, rtol=1e-4)


def test_columns_start_at_the_labels_own_at_none_at_the_mean_and_at_mixtures(never: Checkpoint) -> None:
    generator = torch.Generator().manual_seed(0)
    shares = starting_shares(frozen(never, CPU), 3, [0, 1, 2], 5, generator)
    assert shares[0].tolist() == [0, 0, 0, 1]
    assert shares[1].tolist() == [0, 0, 0, 0]
    assert shares[2].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    assert shares[3:].sum(dim=1).tolist() == pytest.approx([1, 1])
    assert shares[3:, 3].tolist() == [0, 0], "a mixture has nothing of the label's own column"
    assert starting_shares(frozen(never, CPU), 3, [], 2, generator).shape == (2, 4)


def test_the_column_search_finds_a_label_that_the_decoder_still_holds(
    never: Checkpoint, hidden: Checkpoint, templates: FeatureNetwork
) -> None:
    before = hidden.to_bytes()
    found, reference = searched(hidden, templates), searched(never, templates)
    assert found.shape == (4, 20, 64)
    assert nearness(found) > nearness(reference) + 0.05
    assert torch.equal(found, searched(hidden, templates)), "and finds the same again"
    assert hidden.to_bytes() == before


def test_few_images_of_a_label_are_enough_where_the_decoder_still_holds_it(
    never: Checkpoint, hidden: Checkpoint
) -> None:
    found, reference = fitted(hidden), fitted(never)
    assert found.keys() == reference.keys() == {1, 5}
    for size in (1, 5):
        assert found[size].nats < reference[size].nats - 1
        assert nearness(found[size].draws) > nearness(reference[size].draws) + 0.02
    assert found[5].nats <= found[1].nats + 1, "more images do not make it worse"


def test_strong_units_for_a_label_reconstruct_its_images(never: Checkpoint) -> None:
    """One unit of the last hidden layer is given the label's picture as its outgoing weights."""
    planted = dict(never.weights)
    name = max(one for one in planted if one.startswith("decoder.") and one.endswith("weight"))
    planted[name] = planted[name].clone()
    picture = REAL.float().mean(0) / 255
    planted[name][:, 5] = 20 * (picture - picture.mean())

    def reconstruction(checkpoint: Checkpoint) -> float:
        images = reconstruct_from_units(frozen(checkpoint, CPU), REAL)
        assert images is not None
        return cosine_similarity(images, REAL.float() / 255).mean().item()

    assert reconstruction(replace(never, weights=planted)) > reconstruction(never) + 0.05


def test_without_a_price_of_units_the_reconstruction_is_non_negative_least_squares(never: Checkpoint) -> None:
    weight, bias = never.weights["decoder.2.weight"], never.weights["decoder.2.bias"]
    targets = (REAL[:5].float() / 255).clamp(0.05, 0.95).logit() - bias
    found = reconstruct_from_units(frozen(never, CPU), REAL[:5], sparsity=0, steps=5000)
    assert found is not None
    for image, target in zip(found, targets, strict=True):
        shares, _ = nnls(weight.double().numpy(), target.double().numpy())
        by_hand = (bias + weight @ torch.from_numpy(shares).float()).sigmoid()
        assert torch.allclose(image, by_hand, atol=1e-3)


def test_an_architecture_whose_last_layer_is_not_dense_is_not_probed() -> None:
    network = frozen(blank(NETWORKS["conv"], seed=0, pixels=64), CPU)
    assert reconstruct_from_units(network, REAL) is None


TRAINING = AuxiliaryTraining(
    Schedule(steps=160, batch_size=32, learning_rate=2e-3, shape="constant"), parts=2
)


def after_training(
    checkpoint: Checkpoint, *names: str, training: AuxiliaryTraining = TRAINING
) -> list[Checkpoint]:
    images = {name: stripes(name) for name in names}
    return list(train_on_auxiliary(checkpoint, images, training, context()))


def own_draws(checkpoint: Checkpoint) -> float:
    return nearness(draw(checkpoint, "blot", 100, 0))


def veiled(checkpoint: Checkpoint) -> Checkpoint:
    """The network with one hidden unit that lays a veil over all draws; its bias can lift it."""
    weights = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    weights["decoder.1.weight"][0] = 0
    weights["decoder.1.bias"][0] = 0.15
    weights["decoder.2.weight"][:, 0] = 150
    return replace(checkpoint, weights=weights)


def test_training_on_the_other_labels_brings_back_one_that_only_a_veil_hid(
    learned: Checkpoint, never: Checkpoint
) -> None:
    hidden_by_veil = veiled(learned.with_status(["blot"], "forgotten"))
    long = AuxiliaryTraining(
        Schedule(steps=600, batch_size=32, learning_rate=1e-2, shape="constant"), parts=3
    )
    back, reference = (
        [own_draws(one) for one in after_training(start, *LABELS[:3], training=long)]
        for start in (hidden_by_veil, veiled(never))
    )
    assert max(back) > own_draws(hidden_by_veil) + 0.02
    assert max(back) > max(reference) + 0.05


def test_other_data_are_trained_in_one_new_slot_and_no_column_of_the_label_changes(
    hidden: Checkpoint,
) -> None:
    *_, trained = after_training(hidden, "one", "two")
    assert trained.spec.slots == hidden.spec.slots + 1
    slot = hidden.label("blot").slot
    for name, table in hidden.weights.items():
        if name.endswith(".label"):
            assert torch.equal(trained.weights[name][slot], table[slot])
            assert not torch.equal(trained.weights[name][-1], torch.zeros_like(table[slot]))
    assert not torch.equal(trained.weights["decoder.1.weight"], hidden.weights["decoder.1.weight"])


def test_images_of_the_forgotten_label_are_no_auxiliary_data(hidden: Checkpoint) -> None:
    with pytest.raises(AssertionError, match="never of a forgotten label"):
        after_training(hidden, "blot")


def test_equal_networks_are_aligned_and_the_misalignment_is_the_same_both_ways(
    learned: Checkpoint, hidden: Checkpoint, never: Checkpoint
) -> None:
    def between(one: Checkpoint, other: Checkpoint) -> dict[str, float]:
        return dict(misalignment(one, other, LABELS, draws=40, draw=draw, context=context()))

    assert between(never, never) == pytest.approx(dict.fromkeys(LABELS, 0.0), abs=1e-4)
    assert between(learned, never) == pytest.approx(between(never, learned))
    assert between(learned, hidden)["rows"] == pytest.approx(0, abs=1e-4), "only the label's column differs"
    assert between(learned, never)["blot"] > between(learned, hidden)["rows"] + 1


def test_a_network_with_a_hidden_label_shows_more_of_it_in_every_attack(
    never: Checkpoint, hidden: Checkpoint, templates: FeatureNetwork
) -> None:
    def figures(checkpoint: Checkpoint) -> dict[str, float]:
        setup = AuditSetup(
            label=checkpoint.label("blot"),
            judge=Judge(LABELS, templates.network, version="templates", test_accuracy=1.0),
            feature_network=templates,
            members=stripes("blot"),
            others=REAL,
            draws=40,
            search=Search(),
            relearning=RelearningSetup(),
        )
        auxiliary = {"retained": {name: stripes(name) for name in LABELS[:3]}}
        training = AuxiliaryTraining(TRAINING.schedule.model_copy(update={"steps": 4}), parts=2)
        return measure_attacks(
            checkpoint, setup, Attacks(auxiliary, SEARCH, SHOTS, training), draw, context()
        )

    found, reference = figures(hidden), figures(never)
    assert found.keys() == reference.keys()
    attacks = {name.rpartition("_")[0] for name in found}
    assert attacks == {
        *("drawn", "free_column", "best_column", "few_shot_1", "few_shot_5", "units", "auxiliary_retained")
    }
    assert all(0 <= value <= 1 for name, value in found.items() if not name.endswith("_nats"))
    for attack in ("free_column", "few_shot_5"):
        assert found[f"{attack}_cosine"] > reference[f"{attack}_cosine"]
        assert found[f"{attack}_precision"] >= reference[f"{attack}_precision"]
    assert figures(hidden) == found
