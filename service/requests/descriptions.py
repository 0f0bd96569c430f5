"""What a client says about a model or a version: a description, and metadata, changed by a merge patch."""

from collections.abc import Mapping

from service.requests.fields import MAX_METADATA_KEYS, Body, Description, MetadataPatch
from service.requests.violations import InvalidRequest, Violation


class PatchDescription(Body):
    """A merge patch (RFC 7396): what is left out stays, null removes, and so it does in `metadata`."""

    description: Description | None = None
    metadata: MetadataPatch | None = None

    @property
    def changed(self) -> list[str]:
        """The names of the fields that the patch has, for the audit log: not their texts."""
        return sorted(self.model_fields_set)

    def description_after(self, before: str | None) -> str | None:
        """Return the description as it is after the patch."""
        return self.description if "description" in self.model_fields_set else before

    def metadata_after(self, before: Mapping[str, str] | None) -> dict[str, str] | None:
        """Return the metadata as they are after the patch. Raises InvalidRequest if that is too many keys."""
        if "metadata" not in self.model_fields_set:
            return dict(before or {}) or None
        if self.metadata is None:
            return None
        merged = {**(before or {}), **self.metadata}
        found = {key: value for key, value in merged.items() if value is not None}
        if len(found) > MAX_METADATA_KEYS:
            detail = (
                f"metadata has at most {MAX_METADATA_KEYS} keys, and would have {len(found)}; remove some"
            )
            raise InvalidRequest(Violation("/metadata", "out_of_range", detail))
        return found or None
