"""A request resolves to the spec of a job or is refused with every violation; no database is needed."""

from typing import Any

import pytest

from service.registry.errors import (
    LabelAlreadyLearned,
    LabelForgotten,
    ModelHasNoVersion,
    NoPermanentLabel,
    RegistryError,
    StaleBase,
    UnknownLabel,
)
from service.registry.job_specs import JobSpec, LearnSpec, Statuses, spec_of
from service.registry.tables import JobRow, ModelRow
from service.requests.catalog import read_catalog
from service.requests.operations import Evaluate, Forget, JobRequest, Learn, ModelDefaults, Resize
from service.requests.violations import InvalidRequest
from tests.api.offered import CATALOG
from tests.job_specs import job_spec

STATUSES: Statuses = {"1": "permanent", "2": "permanent", "3": "temporary", "4": "forgotten"}


def resolve(request: JobRequest, statuses: Statuses = STATUSES) -> JobSpec:
    return request.resolve(CATALOG, statuses, ModelDefaults(dataset="mnist"))


def violations(body: dict[str, Any], statuses: Statuses = STATUSES) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as refused:
        resolve(Learn.model_validate(body), statuses)
    return [(one.pointer, one.code) for one in refused.value.violations]


def test_a_request_resolves_to_a_spec_with_strategy_and_params() -> None:
    spec = resolve(Learn(labels=["7"], params={"steps": 3}, seed=5))
    assert isinstance(spec, LearnSpec)
    assert (spec.strategy, spec.dataset, spec.seed, spec.labels) == ("replay_ewc", "mnist", 5, ("7",))
    assert (spec.params["steps"], spec.params["learning_rate"]) == (3, 0.003)


@pytest.mark.parametrize(
    ("sent", "strategy"),
    [
        (Learn(labels=["7"]), "replay_ewc"),
        (Learn(labels=["7"], strategy="replay"), "replay"),
        (Learn(labels=["7"], retention="temporary"), "isolated"),
        (Learn(labels=["3"]), "merge"),
        (Learn(labels=["3"], strategy="replay"), "replay"),
        (Learn(labels=["3", "7"]), "replay_ewc"),
        (Forget(labels=["1"]), "surrogate"),
        (Forget(labels=["3"]), "drop"),
        (Forget(labels=["1", "3"]), "surrogate"),
        (Resize(policy="prune"), "prune_units"),
        (Resize(policy="expand"), "expand_units"),
        (Evaluate(), "full"),
    ],
)
def test_the_strategy_depends_on_the_status_of_the_labels(sent: JobRequest, strategy: str) -> None:
    assert resolve(sent).strategy == strategy


def test_a_label_goes_by_the_models_name_for_it() -> None:
    body = {"labels": ["a", "b"], "dataset": "letters", "as": {"a": "first"}}
    spec = resolve(Learn.model_validate(body))
    assert isinstance(spec, LearnSpec)
    assert (spec.labels, spec.renamed) == (("first", "b"), {"first": "a"})


def test_temporary_labels_are_merged_under_the_names_they_have() -> None:
    assert violations({"labels": ["a"], "as": {"a": "3"}}) == [("/as", "label_already_named")]


def test_a_strategy_that_merges_takes_temporary_labels_only() -> None:
    body = {"labels": ["3", "7"], "strategy": "merge"}
    assert violations(body) == [("/strategy", "label_not_temporary")]


@pytest.mark.parametrize(
    "request_for_hypernetworks",
    [Learn(labels=["7"], strategy="hypernetwork"), Forget(labels=["1"], strategy="noise_alignment")],
)
def test_a_strategy_is_refused_for_models_whose_networks_it_does_not_work_on(
    request_for_hypernetworks: JobRequest,
) -> None:
    catalog = read_catalog()
    spec = request_for_hypernetworks.resolve(catalog, STATUSES, ModelDefaults(dataset="mnist"))
    assert catalog.with_packages(spec, {"architecture": "hyper"}) == spec
    for network in ({"architecture": "mlp"}, {"architecture": "conv"}):
        with pytest.raises(InvalidRequest) as refused:
            catalog.with_packages(spec, network)
        [violation] = refused.value.violations
        assert (violation.pointer, violation.code) == ("/strategy", "strategy_not_for_architecture")
        assert "works on models of the architecture hyper" in violation.detail


def test_labels_have_to_be_in_the_dataset_where_the_strategy_needs_their_images() -> None:
    statuses: Statuses = {"1": "permanent", "sneaker": "temporary"}
    assert resolve(Learn(labels=["sneaker"]), statuses).strategy == "merge"
    by_images = {"labels": ["sneaker"], "strategy": "replay"}
    assert violations(by_images, statuses) == [("/labels/0", "unknown_label")]


AUTO = ModelDefaults(dataset="mnist", size_policy="auto")


def resize_after(body: dict[str, Any], kind: type[Learn | Forget], defaults: ModelDefaults) -> str | None:
    """Return the strategy of the resize that follows the request, None if none does."""
    spec = kind.model_validate(body).resolve(CATALOG, STATUSES, defaults)
    return None if spec.resize is None else spec.resize.strategy


@pytest.mark.parametrize(
    ("kind", "body", "by_policy"),
    [
        (Learn, {"labels": ["7"]}, "auto_width"),
        (Learn, {"labels": ["3"]}, "auto_width"),
        (Learn, {"labels": ["7"], "retention": "temporary"}, None),
        (Forget, {"labels": ["1"]}, "auto_width"),
        (Forget, {"labels": ["3"]}, None),
        (Forget, {"labels": ["1", "3"]}, "auto_width"),
        (Forget, {"labels": ["1", "2"]}, None),
    ],
)
def test_the_request_or_else_the_size_policy_says_which_resize_follows(
    kind: type[Learn | Forget], body: dict[str, Any], by_policy: str | None
) -> None:
    assert resize_after(body, kind, AUTO) == by_policy
    assert resize_after(body, kind, ModelDefaults(dataset="mnist")) is None
    for defaults in (AUTO, ModelDefaults(dataset="mnist")):
        assert resize_after(body | {"resize": None}, kind, defaults) is None
        assert resize_after(body | {"resize": {"policy": "prune"}}, kind, defaults) == "prune_units"


def test_a_following_resize_has_the_seed_of_the_request_and_every_param() -> None:
    spec = resolve(Learn.model_validate({"labels": ["7"], "seed": 5, "resize": {"policy": "expand"}}))
    assert isinstance(spec, LearnSpec)
    assert spec.resize is not None
    assert (spec.resize.seed, spec.resize.params) == (5, {"share": 0.1})


@pytest.mark.parametrize(
    ("resize", "violation"),
    [
        ({"policy": "halve"}, ("/resize/policy", "policy_not_found")),
        ({"policy": "prune", "strategy": "expand_units"}, ("/resize/strategy", "strategy_not_found")),
        ({"policy": "prune", "params": {"share": 2}}, ("/resize/params/share", "out_of_range")),
    ],
)
def test_a_violation_in_a_following_resize_points_into_it(
    resize: dict[str, Any], violation: tuple[str, str]
) -> None:
    assert violations({"labels": ["7"], "resize": resize}) == [violation]


PAGES = ModelRow(name="pages", head=2)


@pytest.mark.parametrize(
    ("spec", "statuses", "refusal"),
    [
        (job_spec("learn", "7"), STATUSES, None),
        (job_spec("learn", "3", "4"), STATUSES, None),
        (job_spec("learn", "7", "1"), STATUSES, LabelAlreadyLearned),
        (job_spec("learn", "3", retention="temporary"), STATUSES, LabelAlreadyLearned),
        (job_spec("learn", "7", base_version=2), STATUSES, None),
        (job_spec("learn", "7", base_version=1), STATUSES, StaleBase),
        (job_spec("forget", "1"), STATUSES, None),
        (job_spec("forget", "1", "7"), STATUSES, UnknownLabel),
        (job_spec("forget", "4"), STATUSES, LabelForgotten),
        (job_spec("forget", "4", guarantee="exact"), STATUSES, None),
        (job_spec("forget", "1", "2", "3"), STATUSES, None),
        (job_spec("forget", "1", base_version=1), STATUSES, StaleBase),
        (job_spec("resize"), STATUSES, None),
        (job_spec("resize"), {}, ModelHasNoVersion),
        (job_spec("resize"), {"4": "forgotten"}, NoPermanentLabel),
        (job_spec("resize"), {"3": "temporary"}, NoPermanentLabel),
        (job_spec("resize", base_version=1), STATUSES, StaleBase),
    ],
)
def test_a_spec_is_allowed_or_refused_by_the_statuses_of_the_labels(
    spec: Any, statuses: Statuses, refusal: type[RegistryError] | None
) -> None:
    if refusal is None:
        spec.check(PAGES, statuses)
    else:
        with pytest.raises(refusal):
            spec.check(PAGES, statuses)


@pytest.mark.parametrize(
    ("spec", "after"),
    [
        (job_spec("learn", "7"), {"7": "permanent"}),
        (job_spec("learn", "7", retention="temporary"), {"7": "temporary"}),
        (job_spec("learn", "3"), {"3": "permanent"}),
        (job_spec("forget", "1"), {"1": "forgotten"}),
        (job_spec("resize"), {}),
    ],
)
def test_a_spec_knows_the_statuses_after_its_job(spec: Any, after: dict[str, str]) -> None:
    assert spec.statuses_after(STATUSES) == {**STATUSES, **after}


@pytest.mark.parametrize(
    "spec",
    [
        job_spec("learn", "1", "2", retention="temporary", seed=3, base_version=4),
        job_spec("learn", "a", renamed={"a": "capital A"}, acceptance={"retained_accuracy_min": 0.9}),
        job_spec("forget", "1", params={"steps": 3}, guarantee="exact"),
        job_spec("resize", strategy="prune"),
        job_spec("evaluate", evaluated_version=7),
    ],
    ids=lambda spec: spec.operation,
)
def test_a_spec_comes_back_from_the_row_of_its_job(spec: JobSpec) -> None:
    assert spec_of(JobRow(**spec.columns())) == spec
