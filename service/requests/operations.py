"""Requests to change a model or to measure it: Learn, Forget, Resize and Evaluate, as a client sends them.

A request may leave out its strategy and any of its params. `resolve` fills them in from the catalog and from
the statuses of the model's labels, and returns the spec of a job (service/registry/job_specs.py). It reads no
row, so that a bad request is refused before the database is locked.
"""

from collections.abc import Mapping
from typing import Any, Self, TypeAlias

from pydantic import Field, model_validator

from service.registry.job_specs import EvaluateSpec, ForgetSpec, LearnSpec, ResizeSpec, Retention, Statuses
from service.requests.catalog import Catalog, StrategyEntry
from service.requests.fields import (
    Acceptance,
    Body,
    LabelName,
    Labels,
    Seed,
    VersionNumber,
    refuse_duplicates,
)
from service.requests.violations import InvalidRequest, Violation, escape


class Change(Body):
    """What every request to change a model may contain."""

    strategy: str | None = None
    params: dict[str, Any] = Field({}, description="the strategy's params; their schema is in /v1/catalog")
    seed: Seed = 0
    base_version: VersionNumber | None = Field(
        None,
        description="the version that the client takes for the head; if it is not, the request is refused",
    )
    acceptance: Acceptance = Acceptance()

    def _common(self, chosen: StrategyEntry, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "strategy": chosen.name,
            "params": params,
            "seed": self.seed,
            "base_version": self.base_version,
            "acceptance": self.acceptance.model_dump(exclude_none=True),
        }


class Learn(Change):
    """Labels to learn, from the model's dataset or another."""

    labels: Labels
    dataset: str | None = None
    names: dict[str, LabelName] = Field(
        {}, alias="as", description="the model's name for a label, where it is not the dataset's"
    )
    retention: Retention = Field(
        "permanent",
        description="`temporary`: each label in a small network of its own, which forgetting drops exactly. "
        "Learning a temporary label permanently merges its network into the main one",
    )

    @property
    def sources(self) -> dict[str, str]:
        """{the model's name for a label: the dataset's name for it}, in the order of the labels."""
        return {self.names.get(source, source): source for source in self.labels}

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        refuse_duplicates(self.labels)
        _refuse_names_of_other_labels(self.labels, self.names)
        _refuse_shared_names(self.labels, self.names)
        return self

    def resolve(self, catalog: Catalog, statuses: Statuses, *, model_dataset: str) -> LearnSpec:
        """Return the spec of the job. Raises InvalidRequest.

        catalog: including the uploaded datasets. statuses: of the model's labels, as they will be when the
        job runs. model_dataset: what the model learns from unless a request names another dataset.
        """
        merging = self.retention == "permanent" and _all_temporary(self.sources, statuses)
        chosen = catalog.strategy("learn", self.strategy, retention=self.retention, merges_temporary=merging)
        params = chosen.complete(self.params)
        if chosen.merges_temporary and not merging:
            detail = f"{chosen.name} takes temporary labels only"
            raise InvalidRequest(Violation("/strategy", "label_not_temporary", detail))
        if merging and self.names:
            detail = "a temporary label is made permanent under the name it has; leave `as` out"
            raise InvalidRequest(Violation("/as", "label_already_named", detail))
        dataset = self.dataset or model_dataset
        if chosen.needs_examples:
            _refuse_unknown_labels(self.labels, catalog.dataset(dataset).labels, dataset)
        return LearnSpec(
            **self._common(chosen, params),
            dataset=dataset,
            labels=tuple(self.sources),
            renamed={name: source for name, source in self.sources.items() if name != source},
            retention=self.retention,
        )


class Forget(Change):
    """Labels to forget."""

    labels: Labels
    purge: bool = Field(
        False, description="also delete the files of every older version that was made from these labels"
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        refuse_duplicates(self.labels)
        return self

    def resolve(self, catalog: Catalog, statuses: Statuses, *, model_dataset: str) -> ForgetSpec:
        """Return the spec of the job. Raises InvalidRequest. See Learn.resolve."""
        retention: Retention = "temporary" if _all_temporary(self.labels, statuses) else "permanent"
        chosen = catalog.strategy("forget", self.strategy, retention=retention)
        return ForgetSpec(
            **self._common(chosen, chosen.complete(self.params)),
            dataset=model_dataset,
            labels=tuple(self.labels),
            purge=self.purge,
        )


class Resize(Change):
    """A new size for the network; what it draws stays."""

    policy: str = Field(description="prune, expand or auto; /v1/catalog lists the strategies of each")

    def resolve(self, catalog: Catalog, statuses: Statuses, *, model_dataset: str) -> ResizeSpec:
        """Return the spec of the job. Raises InvalidRequest. See Learn.resolve."""
        chosen = catalog.strategy("resize", self.strategy, policy=self.policy)
        return ResizeSpec(**self._common(chosen, chosen.complete(self.params)), dataset=model_dataset)


class Evaluate(Body):
    """A version to measure in full."""

    version: VersionNumber | None = Field(None, description="the head when it is left out")
    params: dict[str, Any] = Field({}, description="how much is measured; the schema is in /v1/catalog")
    seed: Seed = 0

    def resolve(self, catalog: Catalog, statuses: Statuses, *, model_dataset: str) -> EvaluateSpec:
        """Return the spec of the job. Raises InvalidRequest. See Learn.resolve."""
        chosen = catalog.strategy("evaluate")
        return EvaluateSpec(
            strategy=chosen.name,
            params=chosen.complete(self.params),
            seed=self.seed,
            dataset=model_dataset,
            evaluated_version=self.version,
        )


JobRequest: TypeAlias = Learn | Forget | Resize | Evaluate


def _all_temporary(names: Mapping[str, str] | list[str], statuses: Statuses) -> bool:
    return all(statuses.get(name) == "temporary" for name in names)


def _refuse_names_of_other_labels(labels: list[str], names: Mapping[str, str]) -> None:
    others = [source for source in names if source not in labels]
    if others:
        raise InvalidRequest(
            *(
                Violation(
                    f"/as/{escape(source)}", "unknown_label", f"{source!r} is not among the requested labels"
                )
                for source in others
            )
        )


def _refuse_shared_names(labels: list[str], names: Mapping[str, str]) -> None:
    taken: dict[str, str] = {}
    for source in sorted(labels, key=names.__contains__):  # renamed labels last: a clash points at `as`
        name = names.get(source, source)
        if name in taken:
            detail = f"{source!r} and {taken[name]!r} cannot both be called {name!r}"
            raise InvalidRequest(Violation(f"/as/{escape(source)}", "duplicate_item", detail))
        taken[name] = source


def _refuse_unknown_labels(labels: list[str], known: tuple[str, ...], dataset: str) -> None:
    unknown = [i for i, label in enumerate(labels) if label not in known]
    if unknown:
        raise InvalidRequest(
            *(
                Violation(
                    f"/labels/{i}",
                    "unknown_label",
                    f"{dataset} has no label {labels[i]!r}; it has: {', '.join(known)}",
                )
                for i in unknown
            )
        )
