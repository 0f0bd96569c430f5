"""The names of a version's files, and which of them only describe the version."""

CHECKPOINT = "checkpoint.safetensors"
DECODER = "decoder.onnx"
REPORT = "report.json"
MANIFEST = "manifest.json"

DESCRIPTIVE_FILES = (REPORT, MANIFEST)
"""Files that only describe a version. They can be read even if it is revoked, and no purge deletes them."""

COMPARED_DRAWS = 8
"""How many draws of a remaining label are shown before a forget and after it; their seeds are 0, 1, 2, ..."""

_PICTURE_OF_FORGOTTEN, _PICTURE_BEFORE = "forgotten-", "before-"


def isolated_file(label: str, name: str) -> str:
    """Return the name of the file of a temporary label's network that the main network calls `name`."""
    return f"isolated-{label}-{name}"


def forgotten_file(label: str) -> str:
    """Return the file name of a forgotten label's picture, which shows what the network now draws for it."""
    return f"{_PICTURE_OF_FORGOTTEN}{label}.png"


def before_file(label: str) -> str:
    """Return the file name of a label's picture, drawn by the version before a forget.

    It is of a label that remains, or of one that was forgotten: then it is the evidence of what it drew.
    """
    return f"{_PICTURE_BEFORE}{label}.png"


def is_forgotten_file(name: str) -> bool:
    """Whether this is the name of a forgotten label's picture."""
    return name.startswith(_PICTURE_OF_FORGOTTEN)


def is_before_file(name: str) -> bool:
    """Whether this is the name of a picture that was drawn by the version before a forget."""
    return name.startswith(_PICTURE_BEFORE)
