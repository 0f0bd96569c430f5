"""Compare what two commits published for the same requests: files, images, and the figures in their reports.

Files are compared by sha256, PNG files by that of their pixels. If a name is missing in one of the two, a
file with the same content is searched for. JSON documents are compared leaf by leaf: if a key was renamed,
its number counts as present if the same number is found under one of the new keys.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

HASH_OR_ID = re.compile(r"(?<![0-9A-Za-z+/])[0-9a-f]{64}(?![0-9A-Za-z+/])|\b(mdl|job|smp)_[0-9A-Za-z]{20,}")
ENCODED = re.compile(r"[A-Za-z0-9+/=]{64,}")
"""A string that is data, not text: pixels in base64."""

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """What one job left: a version, or the report of an evaluation.

    files, images: sha256 by name. tensors: sha256 of a checkpoint without its header. documents: parsed JSON.
    problem: why there is nothing to compare.
    """

    job: str
    version: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    params: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Comparison:
    """How two records differ. `differences` are changed results, `notes` are for information only."""

    job: str
    version: int | None
    compared: int
    differences: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether everything in the first record is in the second, with the same bytes and numbers."""
        return not self.differences


def compare(before: Record, after: Record | None) -> Comparison:
    """Return how `after` differs from `before`. after: None if the second tree was not sent this job."""
    if after is None:
        return Comparison(before.job, before.version, 0, ("this job exists in the first tree only",), ())
    differences: list[str] = []
    notes: list[str] = []
    for tree, record in (("first", before), ("second", after)):
        if record.problem:
            differences.append(f"in the {tree} tree: {record.problem}")
    if not differences:
        if before.version != after.version:
            differences.append(f"version: {before.version}, then {after.version}")
        compare_files(before, after, differences, notes)
        compare_documents(before, after, differences, notes)
        if before.params != after.params:
            notes.append(f"params sent: {' '.join(before.params)}, then {' '.join(after.params)}")
    compared = len(before.files) + len(before.images) + len(before.documents)
    return Comparison(before.job, before.version, compared, tuple(differences), tuple(notes))


def compare_files(before: Record, after: Record, differences: list[str], notes: list[str]) -> None:
    """Compare the files and the images; append to `differences` and `notes`."""
    for one, other in ((before.files, after.files), (before.images, after.images)):
        different, named = match_by_content(one, other)
        notes += named
        for name, how in different.items():
            only_header = name in before.tensors and before.tensors[name] == after.tensors.get(name)
            note = " in its header only, the tensors are the same" if only_header else ""
            differences.append(f"{name} {how}{note}")


def match_by_content(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return ({name: `differs` or `is gone`}, what was renamed or is new)."""
    different = {name: "differs" for name in before if name in after and before[name] != after[name]}
    notes: list[str] = []
    fresh = {name: content for name, content in sorted(after.items()) if name not in before}
    for name in sorted(set(before) - set(after)):
        found = next((other for other, content in fresh.items() if content == before[name]), None)
        if found is None:
            different[name] = "is gone"
        else:
            notes.append(f"{name} is now called {found}")
            del fresh[found]
    return different, notes + [f"{name} is new" for name in fresh]


def compare_documents(before: Record, after: Record, differences: list[str], notes: list[str]) -> None:
    """Compare the JSON documents; append to `differences` and `notes`.

    Documents whose names are in one record only are paired in the order of their names.
    """
    gone = sorted(set(before.documents) - set(after.documents))
    fresh = sorted(set(after.documents) - set(before.documents))
    renamed = dict(zip(gone, fresh, strict=False))
    for name, document in before.documents.items():
        other = renamed.get(name, name)
        if other not in after.documents:
            differences.append(f"{name} is gone")
            continue
        if other != name:
            notes.append(f"{name} is now called {other}")
        changed, remarks = compare_leaves(
            comparable_leaves(document), comparable_leaves(after.documents[other])
        )
        differences += [f"{name}: {one}" for one in changed]
        notes += [f"{name}: {one}" for one in remarks]


def comparable_leaves(document: Any) -> dict[KeyPath, Any]:
    """Return the leaves of a document except hashes, ids and a manifest's list of files.

    These differ between runs or between versions of the code. The files themselves are compared.
    """
    return {
        path: value
        for path, value in leaves(document)
        if path[:1] != ("files",) and not (isinstance(value, str) and HASH_OR_ID.search(value))
    }


def leaves(document: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every leaf of a JSON document, with the keys and indices that lead to it."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield from leaves(value, (*path, str(key)))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from leaves(value, (*path, f"[{index}]"))
    else:
        yield path, document


def is_figure(value: Any) -> bool:
    """Return whether a leaf is a number or encoded data, and not text, true, false or null."""
    if isinstance(value, str):
        return bool(ENCODED.search(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def compare_leaves(
    before: Mapping[KeyPath, Any], after: Mapping[KeyPath, Any]
) -> tuple[list[str], list[str]]:
    """Return (figures that changed or are gone, what else differs) between two documents."""
    changed: list[str] = []
    notes: list[str] = []
    for path in [path for path in before if path in after and before[path] != after[path]]:
        figure = is_figure(before[path]) or is_figure(after[path])
        (changed if figure else notes).append(
            f"{'.'.join(path)}: {_short(before[path])}, then {_short(after[path])}"
        )
    gone, fresh = _figures(before, after), _figures(after, before)
    lost = gone - fresh
    if lost:
        paths = [".".join(path) for path in before if path not in after and before[path] in lost]
        changed.append(f"{lost.total()} figures are gone, of {_join(paths)}")
    if extra := (fresh - gone).total():
        notes.append(f"{extra} figures are new")
    keys = [{key for path in one for key in path if not key.startswith("[")} for one in (before, after)]
    for which, names in (("before", keys[0] - keys[1]), ("after", keys[1] - keys[0])):
        if names:
            notes.append(f"keys only {which}: {_join(sorted(names))}")
    return changed, notes


def _figures(one: Mapping[KeyPath, Any], other: Mapping[KeyPath, Any]) -> Counter[Hashable]:
    return Counter(value for path, value in one.items() if path not in other and is_figure(value))


def _join(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _short(value: Any, most: int = 40) -> str:
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."
