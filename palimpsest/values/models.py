"""Models and their versions."""

from datetime import datetime
from typing import Self

from pydantic import Field, PrivateAttr

from palimpsest.values.base import Json, Value
from reports import Figure, FigureSummary, FullReport, Report, Threshold


class Label(Value):
    """A label of a model.

    status: temporary, permanent or forgotten. source: its name in its dataset. generation: how often it was
    learned. forgotten_by: the job that forgot it. expires_at: when the service forgets it by itself.
    """

    name: str
    dataset: str
    source: str
    status: str
    generation: int
    learned_version: int | None
    forgotten_version: int | None
    forgotten_by: str | None
    expires_at: datetime | None = None


class Model(Value):
    """A generative model that learns and forgets labels.

    size_policy: "auto" if a resize follows each job that changes the main network, or "fixed".
    queue: that of its jobs, unless their request names another.
    head: the number of its newest version, None before the first. aliases: the number of the version that
    each names. relapsed: forgotten labels that the newest version draws more often than allowed.
    """

    id: str
    object: str = "model"
    name: str
    description: str | None
    metadata: dict[str, str]
    dataset: str
    network: Json
    seed: int
    acceptance: Json
    size_policy: str
    queue: str
    head: int | None
    aliases: dict[str, int]
    relapsed: tuple[str, ...]
    labels: tuple[Label, ...]
    created_at: datetime
    links: dict[str, str]

    def label_names(self, *statuses: str) -> tuple[str, ...]:
        """Return the names of its labels with one of these statuses; of all without one."""
        return tuple(label.name for label in self.labels if not statuses or label.status in statuses)


class ModelDeletion(Value):
    """The deletion of the files of a deleted model. files_kept: those whose bytes other models need."""

    object: str = "model_deletion"
    model: str
    model_name: str
    state: str
    files_deleted: int
    files_kept: int
    reference: str | None
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]


class Ancestor(Value):
    """A version in the lineage of another.

    state: usable, revoked, purged or deleted. revoked_by: the job that forgot a label which this version
    still holds. purged_by: the job whose purge deleted its files.
    """

    object: str = "version"
    number: int
    parent: int | None
    job: str
    operation: str
    strategy: str
    guarantee: str | None
    labels: tuple[str, ...]
    parameters: int
    state: str
    revoked_by: str | None
    purged_by: str | None
    deleted_at: datetime | None
    created_at: datetime


class VersionFile(Value):
    """A file of a version."""

    sha256: str
    bytes: int
    media_type: str
    href: str


class Headline(Value):
    """The two figures that tell most about a version: accuracy on its labels, and on the forgotten ones."""

    retained: Figure
    forgotten: Figure


class Version(Ancestor):
    """A published state of a model; it never changes. labels: those it holds. aliases: those that name it."""

    model: str
    aliases: tuple[str, ...]
    description: str | None
    metadata: dict[str, str]
    widths: Json
    figures: Headline
    files: dict[str, VersionFile]
    links: dict[str, str]


class Alias(Value):
    """A name of one version of a model.

    revision: the number of its newest change. drawable: whether its version may be drawn; `revoked_by` and
    `purged_by` are the jobs because of which it may not.
    """

    object: str = "alias"
    name: str
    model: str
    version: int
    revision: int
    drawable: bool
    revoked_by: str | None
    purged_by: str | None
    created_at: datetime
    updated_at: datetime
    links: dict[str, str]

    _etag: str = PrivateAttr("*")

    @property
    def etag(self) -> str:
        """The entity tag of this state, by which the server knows whether it was changed since."""
        return self._etag

    def with_etag(self, etag: str) -> Self:
        """Return the same with its entity tag."""
        copy = self.model_copy()
        copy._etag = etag
        return copy


class AliasChange(Value):
    """An entry in the history of an alias.

    action: set, rollback or delete. from_, to: versions; None where there was or is no alias. restored: the
    number of the change that a rollback went back to.
    """

    object: str = "alias_change"
    number: int
    action: str
    from_: int | None = Field(alias="from")
    to: int | None
    restored: int | None
    reason: str | None
    created_by: str | None
    request_id: str | None
    created_at: datetime


class ReportSource(Value):
    """The job that measured a report, and where the file is that was stored and hashed."""

    job: str
    sha256: str
    created_at: datetime
    href: str


class QuickReport(Report):
    """What was measured of a version before it was published. cost: of the job that measured it."""

    cost: Json | None
    source: ReportSource


class EvaluationReport(FullReport):
    """What an evaluate job measured of a version, beside retrained references. cost: of that job."""

    cost: Json | None
    source: ReportSource


class RelapsePoint(Figure):
    """How often one version's draws of a forgotten label were judged to be that label."""

    threshold: Threshold | None
    version: int
    operation: str
    strategy: str


class RelapseLabel(Value):
    """A label that was forgotten, and its accuracy in every version since, oldest first."""

    label: str
    status: str
    forgotten_version: int | None
    relapsed: bool
    series: tuple[RelapsePoint, ...]


class Relapse(Value):
    """Every label that was ever forgotten, measured after each later job.

    earlier: whether there are older versions that the series leave out.
    """

    object: str = "relapse"
    model: str
    head: int | None
    relapsed: tuple[str, ...]
    earlier: bool
    labels: tuple[RelapseLabel, ...]


class ComparedVersion(Value):
    """One side of a comparison. seconds: how long its job took."""

    version: int
    operation: str
    strategy: str
    labels: tuple[str, ...]
    widths: Json
    level: str
    seconds: float | None
    revoked_by: str | None
    created_at: datetime


class FigureComparison(Value):
    """A figure of both versions. clear: whether their 95 % intervals do not overlap."""

    figure: str
    from_: FigureSummary | None = Field(alias="from")
    to: FigureSummary | None
    change: float | None
    clear: bool | None


class Comparison(Value):
    """Two versions side by side, figure by figure."""

    object: str = "comparison"
    model: str
    from_: ComparedVersion = Field(alias="from")
    to: ComparedVersion
    learned: tuple[str, ...]
    forgotten: tuple[str, ...]
    figures: tuple[FigureComparison, ...]
