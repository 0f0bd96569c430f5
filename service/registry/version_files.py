"""The files of a version, by name: what each one is called, and what is still readable once it is revoked."""

CHECKPOINT = "checkpoint.safetensors"
DECODER = "decoder.onnx"
REPORT = "report.json"
MANIFEST = "manifest.json"

DESCRIPTIVE_FILES = (REPORT, MANIFEST)
"""Files that only describe a version. They can be read also when it is revoked, and a purge leaves them."""

COMPARED_DRAWS = 8
"""How many draws of a remaining label are shown before a forget and after it; their seeds are 0, 1, 2, ..."""

_PICTURE_OF_FORGOTTEN, _PICTURE_BEFORE = "forgotten-", "before-"


def isolated_file(label: str, name: str) -> str:
    """Return what the file `name` is called where it belongs to a temporary label's own network."""
    return f"isolated-{label}-{name}"


def forgotten_file(label: str) -> str:
    """Return the name of a forgotten label's picture: what the network still draws for it."""
    return f"{_PICTURE_OF_FORGOTTEN}{label}.png"


def before_file(label: str) -> str:
    """Return the name of a remaining label's picture: what was drawn for it before another was forgotten."""
    return f"{_PICTURE_BEFORE}{label}.png"


def is_forgotten_file(name: str) -> bool:
    """Whether it is the picture of a forgotten label."""
    return name.startswith(_PICTURE_OF_FORGOTTEN)


def is_before_file(name: str) -> bool:
    """Whether it is the picture of a label before another was forgotten."""
    return name.startswith(_PICTURE_BEFORE)
