"""What holds for the choices that a strategy offers besides its defaults, on every network."""

from typing import Any

import pytest
import torch

from tests.learning.tiny import GIVEN, NETWORKS, brief, examples, labels, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank
from worker.learning.strategy import Examples, find

VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("learn", "replay_ewc", {"replay_match": "elbo"}),
    ("forget", "surrogate", {"surrogate": "blank"}),
    ("forget", "surrogate", {"surrogate": "mean_image"}),
    ("forget", "surrogate", {"surrogate": "never_learned"}),
    ("forget", "surrogate", {"replay_match": "elbo"}),
    ("forget", "saliency", {"surrogate": "mean_image"}),
    ("forget", "saliency", {"surrogate": "unrecognised"}),
    ("forget", "distill", {"size": "auto", "rank_examples": 100, "reserve": 0}),
    ("resize", "targeted_dropout_prune", {"mode": "weight"}),
    ("resize", "targeted_dropout_prune", {"replay_match": "elbo"}),
    ("resize", "taylor_prune", {"scope": "network", "taylor_examples": 100}),
    ("resize", "expand", {"method": "net2net"}),
    ("resize", "auto", {"reserve": 0, "density": 0.5, "narrowest": 2}),  # shrinks; grows by default
]
TEMPORARY = [("learn", "merge"), ("forget", "drop")]
WITH_PRIORS = [("learn", "replay_ewc"), ("forget", "surrogate"), ("resize", "expand")]


def named(value: object) -> str | None:
    return "-".join(map(str, value.values())) if isinstance(value, dict) else None


def briefly(operation: str, name: str, start: Checkpoint, given: Examples, **params: Any) -> Checkpoint:
    return run(operation, name, start, given, **brief(find(operation, name)) | params)


@pytest.mark.parametrize(("operation", "name", "params"), VARIANTS, ids=named)
def test_a_variant_leaves_its_start_alone_and_makes_a_complete_checkpoint_unlike_the_defaults(
    operation: str, name: str, params: dict[str, Any], learnt: Checkpoint
) -> None:
    before = learnt.to_bytes()
    after = briefly(operation, name, learnt, GIVEN[operation], **params)
    assert learnt.to_bytes() == before != after.to_bytes()
    assert after.to_bytes() != briefly(operation, name, learnt, GIVEN[operation]).to_bytes(), (
        "not the defaults'"
    )
    assert ("rows" in after.retained, "columns" in after.retained) == (operation != "forget", True)
    assert all(tensor.isfinite().all() for tensor in after.weights.values())
    assert Checkpoint.from_bytes(after.to_bytes()).to_bytes() == after.to_bytes()


@pytest.mark.parametrize("architecture", sorted(NETWORKS))
def test_a_standard_prior_stays_standard_whatever_is_done(architecture: str) -> None:
    start = blank(NETWORKS[architecture] | {"prior": "standard"}, seed=0, pixels=64)
    two = briefly("learn", "replay_ewc", start, examples("rows", "columns"))
    with_temporary = briefly("learn", "isolated", two, examples("frame"))
    results = [two, with_temporary.temporary["frame"]]
    results += [briefly(*which, two, GIVEN[which[0]]) for which in WITH_PRIORS]
    results += [briefly(*which, with_temporary, labels("frame")) for which in TEMPORARY]
    for one in results:
        scale = one.weights["prior_scale"]
        assert not one.weights["prior_mean"].any()
        assert torch.equal(scale @ scale.mT, torch.eye(one.spec.latent).expand_as(scale))
