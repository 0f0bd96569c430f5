"""What an upload says of itself: how it was converted, and what looks wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Note:
    """One sentence for the client. `code` is stable."""

    code: str
    detail: str
    labels: tuple[str, ...] = ()
    """The labels that it is about; none if it is about all of the upload."""

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "detail": self.detail, "labels": list(self.labels)}


@dataclass
class Conversions:
    """Collects how an upload is converted: each kind once, with the number of files that it happened to."""

    _notes: dict[str, str] = field(default_factory=dict)
    _files: dict[str, int] = field(default_factory=dict)

    def add(self, code: str, detail: str) -> None:
        """Add a conversion of the whole upload."""
        self._notes.setdefault(code, detail)

    def count(self, code: str) -> None:
        """Count one more picture with a conversion of PICTURE_CONVERSIONS."""
        self._files[code] = self._files.get(code, 0) + 1

    def notes(self) -> tuple[Note, ...]:
        """Return what was collected, the conversions of the whole upload first."""
        whole = [Note(code, detail) for code, detail in self._notes.items()]
        counted = [
            Note(code, f"{_pictures(self._files[code])} {detail}")
            for code, detail in PICTURE_CONVERSIONS.items()
            if code in self._files
        ]
        return (*whole, *counted)


PICTURE_CONVERSIONS: Mapping[str, str] = {
    "jpeg_decoded": "in JPEG format: some detail was lost when they were saved",
    "orientation_applied": "turned as the EXIF data in the file say",
    "alpha_removed": "with an alpha channel that hides nothing: it was left out",
    "transparency_on_black": "with transparent parts: they were put on black",
    "grey_from_colours": "in colour: made grey with the weights 0.299 red, 0.587 green and 0.114 blue",
    "grey_from_16_bits": "with 16 bits a pixel: divided by 257 and rounded",
    "fitted": "of another size: scaled to fit into 28x28, and filled up with the brightness of the border",
}
"""{code: what happened to the pictures}, for conversions that are counted picture by picture."""


def to_json(notes: Sequence[Note]) -> list[dict[str, Any]]:
    return [note.to_json() for note in notes]


def _pictures(count: int) -> str:
    return "1 picture is" if count == 1 else f"{count:,} pictures are"
