"""Errors about datasets and their images."""

from collections.abc import Iterable, Sequence

from service.registry.errors.base import RegistryError, quoted


class UnknownDataset(RegistryError):
    code = "dataset_not_found"
    cause = "The project has no dataset of this name."
    cure = "GET /v1/datasets lists the datasets."

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no dataset {name!r}; GET /v1/datasets lists the datasets")


class UnknownDatasetLabel(RegistryError):
    code = "unknown_label"
    cause = "The dataset has no images of this label, or they were deleted."
    cure = "GET /v1/datasets/{dataset} lists its labels."

    def __init__(self, dataset: str, label: str, labels: Sequence[str], *, deleted: bool) -> None:
        found = f"the images of {label!r} were deleted from the dataset {dataset!r}"
        if not deleted:
            found = f"the dataset {dataset!r} has no label {label[:80]!r}"
        super().__init__(f"{found}; it has: {', '.join(labels)}")


class DatasetExists(RegistryError):
    code = "dataset_exists"
    cause = "There is a dataset of this name, with other images."
    cure = "Upload yours under another name."

    def __init__(self, name: str, difference: str) -> None:
        super().__init__(
            f"there is already a dataset {name!r}, {difference}; upload yours under another name"
        )


class DatasetInUse(RegistryError):
    code = "dataset_in_use"
    cause = "An unfinished job may need the images."
    cure = "Wait until the job has ended, or cancel it; then send the request again."

    def __init__(self, name: str, job_id: str) -> None:
        super().__init__(
            f"the images of the dataset {name!r} cannot be deleted, because job {job_id} may need them; "
            "delete them when the job has ended, or cancel the job"
        )
        self.job_id = job_id


class ImagesDeleted(RegistryError):
    code = "images_deleted"
    cause = "The images of the label were deleted from the dataset."
    cure = "Upload the images again under another name, or learn the label from another dataset."

    def __init__(self, dataset: str, labels: Iterable[str]) -> None:
        super().__init__(
            f"the images of {quoted(labels)} were deleted from the dataset {dataset!r}, so they cannot be "
            "learned from it"
        )


class QuotaExceeded(RegistryError):
    code = "quota_exceeded"
    cause = "The project, or the deployment, has as many datasets or bytes of images as it may."
    cure = "Delete datasets that are not needed."

    def __init__(self, found: str) -> None:
        super().__init__(f"the dataset is not stored, because {found}; delete datasets that are not needed")
