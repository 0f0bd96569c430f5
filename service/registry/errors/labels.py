"""Errors about the labels of a model: what it learned, forgot, and may not do with them."""

from collections.abc import Iterable, Sequence

from service.registry.errors.base import RegistryError, quoted


class UnknownLabel(RegistryError):
    code = "unknown_label"
    cause = "The model never learned the label."
    cure = "GET /v1/models/{model} lists its labels."

    def __init__(self, model: str, labels: Iterable[str]) -> None:
        super().__init__(
            f"model {model!r} never learned {quoted(labels)}; GET /v1/models/{model} lists its labels"
        )


class LabelAlreadyLearned(RegistryError):
    code = "label_already_learned"
    cause = "The model has learned the label, or a queued job will."
    cure = "Leave the label out, or learn it under another name with `as`."

    def __init__(self, model: str, labels: Sequence[str], job_id: str | None = None) -> None:
        self.labels = tuple(labels)
        self.job_id = job_id
        by = f" (job {job_id})" if job_id else ""
        super().__init__(
            f"model {model!r} has already learned {quoted(labels)}, or a queued job will learn it{by}; leave "
            "it out, or learn it under another name with `as`"
        )


class LabelNotLearned(RegistryError):
    code = "label_not_learned"
    cause = "The version does not hold the label."
    cure = "GET /v1/models/{model}/versions/{number} lists the labels it holds."

    def __init__(self, model: str, number: int, labels: Sequence[str]) -> None:
        self.labels = labels
        super().__init__(
            f"version {number} of model {model!r} does not hold {quoted(labels)}; "
            f"GET /v1/models/{model}/versions/{number} lists the labels it holds"
        )


class LabelForgotten(RegistryError):
    code = "label_forgotten"
    cause = "The model has forgotten the label; `job` is the job that did."
    cure = "Learn the label again to use it."

    def __init__(self, model: str, label: str, job_id: str | None) -> None:
        self.job_id = job_id
        self.labels = (label,)
        by = f" in job {job_id}" if job_id else ""
        super().__init__(f"model {model!r} has forgotten {label!r}{by}; learn the label again to use it")


class ForgottenWithLess(RegistryError):
    """A request asks for more than an earlier forget of the label gave, and its strategy cannot give it."""

    code = "forgotten_with_less"
    cause = (
        "The label was forgotten with less than the request asks for, and its strategy cannot give the rest."
    )
    cure = "Send the request with guarantee `exact`, or without what is missing."

    def __init__(self, model: str, label: str, job_id: str, missing: Sequence[str]) -> None:
        self.job_id = job_id
        super().__init__(
            f"model {model!r} has forgotten {label!r} in job {job_id}, or will, but {' and '.join(missing)}. "
            "Send the request with guarantee 'exact' to forget it again with more, or without what is "
            "missing to be answered with that job"
        )


class ForgetUnfinished(RegistryError):
    """A label would be left out of a job because of another job, which may still be cancelled or fail."""

    code = "forget_unfinished"
    cause = "Another job is to forget some of the labels, and may still fail."
    cure = "Send the request again when that job has ended, or one request for each set of labels."

    def __init__(self, model: str, labels: Iterable[str], job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id}, which is to forget {quoted(labels)} of model {model!r}, has not ended and may "
            "still fail, and the request names other labels, too. Send it again when that job has ended, or "
            "send the labels of that job and the others in two requests"
        )


class NothingToFollow(RegistryError):
    """A request names a resize after a forget, and every label has been forgotten already without one."""

    code = "nothing_to_follow"
    cause = "The labels are forgotten already, so there is no new version that the resize could follow."
    cure = "Send the resize as a request of its own."

    def __init__(self, model: str, labels: Iterable[str], job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"model {model!r} has forgotten {quoted(labels)} already, or will in job {job_id}, and no such "
            f"resize follows that job; send it to /v1/models/{model}/resize, or leave `resize` out to be "
            "answered with that job"
        )


class TooManyRepetitions(RegistryError):
    """A job answers so many requests with other references or metadata that it keeps no more of them."""

    code = "too_many_repetitions"
    cause = "One forget has answered so many requests of other references or metadata that it keeps no more."
    cure = "Send the request without `reference` and `metadata`."

    def __init__(self, job_id: str, most: int) -> None:
        self.job_id = job_id
        super().__init__(
            f"job {job_id} has forgotten the labels, or is to, and keeps the references and metadata of "
            f"{most} other requests already, and no more; send the request without reference and metadata to "
            "be answered with that job"
        )


class NotExact(RegistryError):
    """Dropping the networks of temporary labels is not exact, because the main network knew them once."""

    code = "guarantee_not_possible"
    cause = (
        "The strategy does not forget the label exactly: the main network knew it before it became temporary."
    )
    cure = "Name an exact strategy for permanent labels; GET /v1/catalog lists them."

    def __init__(self, model: str, labels: Iterable[str], strategy: str) -> None:
        super().__init__(
            f"the strategy {strategy} does not forget {quoted(labels)} exactly, because the main network of "
            f"model {model!r} learned it before the label became temporary; name an exact strategy for "
            "permanent labels (GET /v1/catalog), which makes the main network anew"
        )


class GuaranteeMissed(RegistryError):
    code = "guarantee_missed"
    cause = "The job did not give the exact result that it had to give."
    cure = "Name an exact strategy for permanent labels, and send the request again."

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"the result of job {job_id} is not exact, as it had to be; nothing is published. Name an exact "
            "strategy for permanent labels (GET /v1/catalog), and send the request again"
        )
