"""Errors about exports."""

from service.registry.errors.base import RegistryError


class UnknownExport(RegistryError):
    code = "export_not_found"
    cause = "The project has no export of this id, or it was deleted."
    cure = "GET /v1/exports lists the exports."

    def __init__(self, export_id: str) -> None:
        super().__init__(f"there is no export {export_id!r}; GET /v1/exports lists the exports")


class ExportAlreadyFinished(RegistryError):
    code = "export_already_finished"
    cause = "The export has ended."
    cure = "Nothing needs to be cancelled; DELETE removes its files."

    def __init__(self, export_id: str, state: str) -> None:
        super().__init__(f"export {export_id} cannot be cancelled, because it has already ended as {state}")


class ExportFileNotReady(RegistryError):
    code = "export_file_not_ready"
    cause = "The export is not finished, and this file of it is not there yet."
    cure = "Wait until the export has the shard, or has succeeded; then send the request again."

    def __init__(self, export_id: str, file: str, state: str) -> None:
        super().__init__(
            f"{file} of export {export_id} is not there yet: the export is {state}; try again when it has it"
        )


class ExportFileMissing(RegistryError):
    code = "export_file_not_found"
    cause = "The export has no shard of this number."
    cure = "GET /v1/exports/{export} tells how many shards it has; they are numbered from 0."

    def __init__(self, export_id: str, shards: int) -> None:
        super().__init__(f"export {export_id} has no such shard; its {shards} shards are numbered from 0")


class ExportFilesDeleted(RegistryError):
    code = "export_files_deleted"
    cause = "The export ended without a result, so that its files are deleted."
    cure = "Make the export again; its error tells why it ended."

    def __init__(self, export_id: str, state: str) -> None:
        super().__init__(f"export {export_id} has no files, because it ended as {state}; make it again")


class ExportQuotaExceeded(RegistryError):
    code = "quota_exceeded"
    cause = "The exports of the project would have more bytes than they may."
    cure = "Delete exports that are not needed, or ask for fewer images."

    def __init__(self, needed: int, used: int, most: int) -> None:
        super().__init__(
            f"the export is not accepted, because it needs about {needed:,} bytes, and the exports of the "
            f"project have {used:,} of the {most:,} that they may have; delete exports that are not needed"
        )


class TooManyExports(RegistryError):
    code = "too_many_exports"
    cause = "The project has as many unfinished exports as it may."
    cure = "Send the request again when one has ended, or cancel one."

    def __init__(self, most: int) -> None:
        super().__init__(
            f"no further export is accepted, because the project has {most} unfinished ones; try again when "
            "one has ended, or cancel one"
        )
