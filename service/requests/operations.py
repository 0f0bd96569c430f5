"""The bodies of the requests that submit a job: Learn, Forget, Resize and Evaluate.

A request may leave out its strategy and any of its params. `resolve` fills them in from the catalog (the
strategies, datasets and architectures that a request may name, with the schemas of their params) and from the
statuses of the model's labels, and returns the spec of a job (service/registry/job_specs.py). It does not use
the database.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self, TypeAlias

from pydantic import Field, model_validator

from service.registry.job_specs import (
    Demands,
    EvaluateSpec,
    ForgetSpec,
    LearnSpec,
    ResizeSpec,
    Retention,
    Statuses,
)
from service.registry.names import find_fault
from service.registry.tables import Guarantee, SizePolicy
from service.requests.catalog import Catalog, DatasetEntry, StrategyEntry
from service.requests.fields import (
    LABEL_PATTERN,
    MAX_LABELS,
    Acceptance,
    Body,
    LabelName,
    Labels,
    Metadata,
    Priority,
    QueueName,
    Reference,
    ResourceName,
    Seed,
    VersionReference,
    refuse_duplicates,
)
from service.requests.violations import InvalidRequest, Violation, escape

MAX_EXPIRES_IN = 10 * 365 * 86400
"""Ten years, in seconds."""


@dataclass(frozen=True, kw_only=True)
class ModelDefaults:
    """What a request about a model leaves to the model."""

    dataset: str
    """The dataset to learn from if the request names none."""
    size_policy: SizePolicy = "fixed"
    """Whether a resize follows if the request does not say."""


class Submitted(Body):
    """The fields that every request for a job may have."""

    reference: Reference | None = None
    metadata: Metadata = Field({})
    queue: QueueName | None = Field(
        None,
        description="The queue of the job: only workers that serve it take the job. If it is left out, that "
        "of the model.",
    )
    priority: Priority | None = None

    def with_numbers(self, number_of: Callable[[str], int]) -> Self:
        """Return the request with the numbers of the versions that it names by an alias or as `head`.

        number_of: finds the number. A job is about the version that had the name when it was accepted.
        """
        named = {field: getattr(self, field, None) for field in ("base_version", "version")}
        found = {field: number_of(name) for field, name in named.items() if isinstance(name, str)}
        return self.model_copy(update=found) if found else self


class Change(Submitted):
    """The fields that every request to change a model may have."""

    strategy: str | None = Field(
        None, description="If it is left out, the default strategy of /v1/catalog is used."
    )
    params: dict[str, Any] = Field(
        {}, description="The params of the strategy. Their schema is in /v1/catalog."
    )
    seed: Seed = 0
    base_version: VersionReference | None = Field(
        None,
        description="The version that the client expects to be the head, by its number or an alias. If it is "
        "not, the request is refused with 409.",
    )
    acceptance: Acceptance = Acceptance()

    def _common(self, chosen: StrategyEntry, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "strategy": chosen.name,
            "params": params,
            "seed": self.seed,
            "base_version": _as_number(self.base_version),
            "acceptance": self.acceptance.model_dump(exclude_none=True),
        }


class FollowingResize(Body):
    """How the network is resized once the labels are learned or forgotten."""

    policy: str = Field(
        description="One of prune, expand, search and auto. /v1/catalog lists the strategies of each."
    )
    strategy: str | None = Field(
        None, description="If it is left out, the default strategy of the policy is used."
    )
    params: dict[str, Any] = Field(
        {}, description="The params of the strategy. Their schema is in /v1/catalog."
    )


class LabelsChange(Change):
    """The fields that every request to learn or forget labels may have."""

    labels: Labels
    resize: FollowingResize | None = Field(
        None,
        description="Resize the network afterwards, by a job of its own, which this job names as "
        "`followed_by`. It runs once this job has succeeded, and is cancelled if this job ends otherwise. If "
        "the field is left out, the `size_policy` of the model decides; with null no resize follows.",
    )

    def _resolve_resize(
        self,
        catalog: Catalog,
        after: Statuses,
        defaults: ModelDefaults,
        *,
        changes_main_network: bool,
    ) -> ResizeSpec | None:
        """Return the spec of the resize that follows, None if none does. Raises InvalidRequest.

        after: the statuses of the labels once they are learned or forgotten.
        """
        if "resize" in self.model_fields_set:
            requested = self.resize
        elif defaults.size_policy == "auto" and changes_main_network and "permanent" in after.values():
            requested = FollowingResize(policy="auto")
        else:
            requested = None
        if requested is None:
            return None
        resize = Resize(
            policy=requested.policy, strategy=requested.strategy, params=requested.params, seed=self.seed
        )
        try:
            return resize.resolve(catalog, after, defaults)
        except InvalidRequest as error:
            raise InvalidRequest(
                *(Violation(f"/resize{one.pointer}", one.code, one.detail) for one in error.violations)
            ) from None


class Learn(LabelsChange):
    """A request to learn labels."""

    dataset: ResourceName | None = Field(
        None, description="The dataset to learn from. If it is left out, the dataset of the model is used."
    )
    names: dict[str, LabelName] = Field(
        {},
        alias="as",
        description="New names for labels in the model, by their names in the dataset.",
        json_schema_extra={"maxProperties": MAX_LABELS, "propertyNames": {"pattern": LABEL_PATTERN}},
    )
    retention: Retention = Field(
        "permanent",
        description="`temporary` learns each label in a small network of its own, and forgetting the label "
        "deletes that network. Learning a temporary label again with `permanent` merges its network into "
        "the main one.",
    )

    expires_in: Annotated[int, Field(ge=1, le=MAX_EXPIRES_IN)] | None = Field(
        None,
        description="For `temporary` labels: how many seconds after they were learned the service forgets "
        "them by itself, as a request to forget would, with a receipt. Making a label permanent ends that.",
    )

    @property
    def sources(self) -> dict[str, str]:
        """{name of a label in the model: its name in the dataset}, in the order of the request."""
        return {self.names.get(source, source): source for source in self.labels}

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        refuse_duplicates(self.labels)
        _refuse_names_of_other_labels(self.labels, self.names)
        _refuse_shared_names(self.labels, self.names)
        if self.expires_in is not None and self.retention != "temporary":
            detail = "only temporary labels expire; leave it out, or set retention 'temporary'"
            raise InvalidRequest(Violation("/expires_in", "contradiction", detail))
        return self

    def resolve(self, catalog: Catalog, statuses: Statuses, defaults: ModelDefaults) -> LearnSpec:
        """Return the spec of the job. Raises InvalidRequest.

        catalog: the catalog with the uploaded datasets.
        statuses: the statuses that the labels of the model will have when the job runs.
        """
        merging = self.retention == "permanent" and _all_temporary(self.sources, statuses)
        chosen = catalog.strategy("learn", self.strategy, retention=self.retention, merges_temporary=merging)
        params = chosen.complete(self.params)
        if chosen.merges_temporary and not merging:
            detail = f"the strategy {chosen.name} accepts temporary labels only"
            raise InvalidRequest(Violation("/strategy", "label_not_temporary", detail))
        if merging and self.names:
            detail = "a temporary label keeps its name when it is made permanent; leave `as` out"
            raise InvalidRequest(Violation("/as", "label_already_named", detail))
        _refuse_unsafe_names(self.sources, self.labels, known=statuses)
        dataset = self.dataset or defaults.dataset
        if chosen.needs_examples:
            _refuse_unknown_labels(self.labels, catalog.dataset(dataset))
        spec = LearnSpec(
            **self._common(chosen, params),
            dataset=dataset,
            labels=tuple(self.sources),
            renamed={name: source for name, source in self.sources.items() if name != source},
            retention=self.retention,
            expires_in=self.expires_in,
        )
        resize = self._resolve_resize(
            catalog,
            spec.statuses_after(statuses),
            defaults,
            changes_main_network=self.retention == "permanent",
        )
        return replace(spec, resize=resize)


class Also(Body):
    """What else a forget deletes."""

    datasets: bool = Field(
        False,
        description="Delete the images of the labels from the uploaded datasets that the model learned them "
        "from. They cannot be learned again once the job has succeeded, and are deleted when no "
        "older job may need them.",
    )


class Forget(LabelsChange):
    """A request to forget labels."""

    guarantee: Guarantee | None = Field(
        None,
        description="`exact` needs a strategy that makes weights which never learned the labels; if none is "
        "named, one is chosen. It also runs for labels that were forgotten with less. `approximate` accepts "
        "every strategy but a named exact one.",
    )
    purge: bool = Field(
        False, description="Also delete the files of every older version that was made from these labels."
    )
    also: Also = Also()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        refuse_duplicates(self.labels)
        return self

    def resolve(self, catalog: Catalog, statuses: Statuses, defaults: ModelDefaults) -> ForgetSpec:
        """Return the spec of the job. Raises InvalidRequest. See Learn.resolve."""
        retention = self._retention(catalog, statuses)
        chosen = catalog.strategy("forget", self.strategy, retention=retention, guarantee=self.guarantee)
        if self.strategy and self.guarantee and chosen.guarantee != self.guarantee:
            detail = (
                f"the strategy {chosen.name} is {chosen.guarantee}, so it contradicts the guarantee "
                f"{self.guarantee!r}; leave one of the two out"
            )
            raise InvalidRequest(Violation("/guarantee", "contradiction", detail))
        spec = ForgetSpec(
            **self._common(chosen, chosen.complete(self.params)),
            dataset=defaults.dataset,
            labels=tuple(self.labels),
            guarantee=chosen.guarantee or "approximate",
            drops_only=retention == "temporary",
            demands=Demands(
                guarantee=self.guarantee,
                strategy=self.strategy,
                has_params=bool(self.params),
                resize=self.resize is not None,
            ),
            purge=self.purge,
            erase_images=self.also.datasets,
        )
        resize = self._resolve_resize(
            catalog, spec.statuses_after(statuses), defaults, changes_main_network=not spec.drops_only
        )
        return replace(spec, resize=resize)

    def _retention(self, catalog: Catalog, statuses: Statuses) -> Retention:
        """Return the retention of the strategies to choose from.

        It is `temporary` if all that is left to do is to drop isolated networks. A named exact strategy for
        permanent labels may be used for temporary ones too: the main network may have learned them earlier.
        """
        held = [name for name in self.labels if statuses.get(name) != "forgotten"]
        is_done_by_dropping = bool(held) and _all_temporary(held, statuses)
        if self.guarantee == "exact" and len(held) < len(self.labels):
            is_done_by_dropping = False
        named = next((one for one in catalog.strategies if _is_exact_forget(one, self.strategy)), None)
        return "temporary" if is_done_by_dropping and named is None else "permanent"


class Resize(Change):
    """A request to change the size of the main network. The labels stay the same."""

    policy: str = Field(
        description="One of prune, expand, search and auto. /v1/catalog lists the strategies of each."
    )

    def resolve(self, catalog: Catalog, statuses: Statuses, defaults: ModelDefaults) -> ResizeSpec:
        """Return the spec of the job. Raises InvalidRequest. See Learn.resolve."""
        chosen = catalog.strategy("resize", self.strategy, policy=self.policy)
        return ResizeSpec(**self._common(chosen, chosen.complete(self.params)), dataset=defaults.dataset)


class Evaluate(Submitted):
    """A request to measure a version in full."""

    version: VersionReference | None = Field(
        None, description="Its number or an alias. The head if it is left out."
    )
    params: dict[str, Any] = Field({}, description="How much is measured. The schema is in /v1/catalog.")
    seed: Seed = 0

    def resolve(self, catalog: Catalog, statuses: Statuses, defaults: ModelDefaults) -> EvaluateSpec:
        """Return the spec of the job. Raises InvalidRequest. See Learn.resolve."""
        chosen = catalog.strategy("evaluate")
        return EvaluateSpec(
            strategy=chosen.name,
            params=chosen.complete(self.params),
            seed=self.seed,
            dataset=defaults.dataset,
            evaluated_version=_as_number(self.version),
        )


def _is_exact_forget(entry: StrategyEntry, name: str | None) -> bool:
    """Whether this is the exact strategy of that name that forgets permanent labels."""
    exact = entry.operation == "forget" and entry.guarantee == "exact" and entry.retention == "permanent"
    return exact and entry.name == name


def _as_number(version: int | str | None) -> int | None:
    assert not isinstance(version, str), "with_numbers has replaced every name"
    return version


JobRequest: TypeAlias = Learn | Forget | Resize | Evaluate


def _all_temporary(names: Mapping[str, str] | list[str], statuses: Statuses) -> bool:
    return all(statuses.get(name) == "temporary" for name in names)


def _refuse_names_of_other_labels(labels: list[str], names: Mapping[str, str]) -> None:
    others = [source for source in names if source not in labels]
    if others:
        raise InvalidRequest(
            *(
                Violation(
                    f"/as/{escape(source)}",
                    "unknown_label",
                    f"{source!r} is not in `labels`; add it there, or leave it out of `as`",
                )
                for source in others
            )
        )


def _refuse_shared_names(labels: list[str], names: Mapping[str, str]) -> None:
    taken: dict[str, str] = {}
    for source in sorted(
        labels, key=names.__contains__
    ):  # renamed labels last, so that the violation points at the rename
        name = names.get(source, source)
        if name in taken:
            detail = f"{source!r} and {taken[name]!r} cannot both be called {name!r}; rename one of them"
            raise InvalidRequest(Violation(f"/as/{escape(source)}", "duplicate_item", detail))
        taken[name] = source


def _refuse_unsafe_names(sources: Mapping[str, str], labels: list[str], *, known: Statuses) -> None:
    """Refuse new names of labels that break the rule (names.py). Names that the model has stay usable."""
    violations = []
    for name, source in sources.items():
        if name not in known and (fault := find_fault(name)):
            pointer = f"/labels/{labels.index(source)}" if name == source else f"/as/{escape(source)}"
            advice = " Give it another name in the model with `as`." if name == source else ""
            detail = f"{name!r} cannot be the name of a label: {fault}.{advice}"
            violations.append(Violation(pointer, "invalid_name", detail))
    if violations:
        raise InvalidRequest(*violations)


def _refuse_unknown_labels(labels: list[str], dataset: DatasetEntry) -> None:
    violations = []
    for i, label in enumerate(labels):
        if label not in dataset.labels:
            found = f"the dataset {dataset.name} has no label {label!r}"
            if label in dataset.deleted_labels:
                found = f"the images of {label!r} were deleted from the dataset {dataset.name}"
            detail = f"{found}; it has: {', '.join(dataset.labels)}"
            violations.append(Violation(f"/labels/{i}", "unknown_label", detail))
    if violations:
        raise InvalidRequest(*violations)
