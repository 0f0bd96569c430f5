"""What other packages bring to the workers, as part of the catalog.

Each worker writes what it offers into its row (service/registry/workers.py). It checks it before, so that its
own log says what is wrong with a package; the API checks it again, because it trusts no row. What breaks a
rule is left out: it never takes down a worker or the API.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from pydantic import ValidationError
from sqlalchemy.orm import Session

from service.registry import labels, workers
from service.registry.names import is_storable
from service.requests import schema_rules
from service.requests.catalog import ArchitectureEntry, Catalog, DatasetEntry, StrategyEntry, read_catalog
from service.requests.fields import NAME, NAME_RULE

log = logging.getLogger(__name__)

Entry: TypeAlias = StrategyEntry | DatasetEntry | ArchitectureEntry
Key: TypeAlias = tuple[str, ...]

PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
VERSION = re.compile(r"[A-Za-z0-9.!+_-]{1,100}")
MAX_TEXT = 1000
MAX_LABELS = 1000
MAX_ITEMS = 200
"""How many strategies, datasets and architectures one worker may offer."""
KINDS: Mapping[str, tuple[str, type[Entry]]] = {
    "strategies": ("strategy", StrategyEntry),
    "datasets": ("dataset", DatasetEntry),
    "architectures": ("network", ArchitectureEntry),
}
"""{list of the catalog: (kind, type of its entries)}."""


class NotUsable(Exception):
    """What a package brings breaks a rule. The message says which, as the end of a sentence."""


def with_offers(catalog: Catalog, session: Session) -> Catalog:
    """Return the catalog with what the running workers offer besides.

    If several workers offer the same thing of one package, that of the worker which started last counts. If
    two packages have something of the same name, neither is offered, so that no request gets the wrong one.
    """
    offerings = workers.find_offerings(session)
    if not offerings:
        return catalog
    offered: dict[Key, Entry] = {}
    not_offered: dict[Key, str] = {}
    disputed: dict[Key, set[str]] = {}
    for one in offerings:
        for key, entry in _read(json.dumps(one.offers, sort_keys=True)):
            name = _package_of(entry)
            if not one.is_live:
                not_offered.setdefault(
                    key,
                    f"it comes from the package {name}, and no running worker has that; the last one with it "
                    f"was seen at {one.seen_at:%Y-%m-%d %H:%M:%S} UTC. Start a worker where it is installed",
                )
            elif _package_of(offered.setdefault(key, entry)) != name:
                disputed.setdefault(key, {_package_of(offered[key])}).add(name)
    for key, packages in disputed.items():
        del offered[key]
        not_offered[key] = (
            f"the packages {' and '.join(sorted(packages))} bring one of this name each; uninstall all but "
            "one where workers run"
        )
    own = _keys(catalog)
    entries = [entry for key, entry in offered.items() if key not in own]
    return catalog.with_foreign(
        [one for one in entries if isinstance(one, StrategyEntry)],
        [one for one in entries if isinstance(one, DatasetEntry)],
        [one for one in entries if isinstance(one, ArchitectureEntry)],
        {key: reason for key, reason in not_offered.items() if key not in offered and key not in own},
    )


def check(kind: str, item: Mapping[str, Any]) -> Entry:
    """Return the entry of the catalog for something that a package brings. Raises NotUsable.

    kind: the list of the catalog, such as `strategies`.
    """
    try:
        text = json.dumps(item, allow_nan=False, ensure_ascii=False)
        text.encode()
        # As strict JSON, because the Python values of a package may be of other types.
        entry = KINDS[kind][1].model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise NotUsable(f"its {place} is wrong: {first['msg']}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise NotUsable(f"it is not JSON ({error})") from None
    if fault := next(_faults(entry), None):
        raise NotUsable(fault)
    return entry


def _faults(entry: Entry) -> Iterator[str]:
    if entry.package is None:
        yield "it names no package"
        return
    if not PACKAGE.fullmatch(entry.package.name) or not VERSION.fullmatch(entry.package.version):
        yield "the name or the version of its package is not a valid one"
    if not NAME.fullmatch(entry.name):
        yield f"its name is {entry.name[:100]!r}; a name {NAME_RULE}"
    texts = (entry.title,) if isinstance(entry, DatasetEntry) else (entry.summary,)
    if any(len(text) > MAX_TEXT or not text.isprintable() or not is_storable(text) for text in texts):
        yield f"its description is longer than {MAX_TEXT} characters, or does not consist of printable ones"
    if _key(entry) in _built_in():
        yield "one of this name is built in; give it another name"
    if isinstance(entry, DatasetEntry):
        yield from _faults_of_dataset(entry)
        return
    if fault := schema_rules.find_fault(entry.params):
        yield fault
    if isinstance(entry, StrategyEntry):
        yield from _faults_of_strategy(entry)


def _faults_of_strategy(entry: StrategyEntry) -> Iterator[str]:
    if entry.operation == "evaluate":
        yield "no package can bring a strategy to evaluate"
    if entry.default:
        yield "only a built-in strategy may be a default"
    if len(entry.source) > MAX_TEXT or not entry.source.isprintable():
        yield f"its source is longer than {MAX_TEXT} characters, or does not consist of printable ones"
    policies = {one.policy for one in read_catalog().strategies if one.policy}
    if entry.operation == "resize" and entry.policy not in policies:
        yield f"its policy is {entry.policy!r}; choose from: {', '.join(sorted(policies))}"
    if entry.operation != "resize" and entry.policy is not None:
        yield "only a strategy to resize has a policy"
    if (entry.operation == "forget") != (entry.guarantee is not None):
        yield "a strategy to forget, and no other, has a guarantee"


def _faults_of_dataset(entry: DatasetEntry) -> Iterator[str]:
    if entry.image_shape != (28, 28):
        yield f"its images are {entry.image_shape}, and networks draw 28 x 28 pixels"
    if not 1 <= len(entry.labels) <= MAX_LABELS or len(set(entry.labels)) < len(entry.labels):
        yield f"its labels are not 1 to {MAX_LABELS} different ones"
    for label in entry.labels:
        if not re.fullmatch(labels.NAME, label):
            yield f"its label {label[:100]!r} cannot be one: {labels.RULE}"
    if entry.images is not None or entry.deleted_labels:
        yield "only an uploaded dataset has numbers of images"
    if entry.files is not None:  # the API would read any file that they name
        yield "only a built-in dataset names its files"


class _Read(NamedTuple):
    key: Key
    entry: Entry


@lru_cache(maxsize=64)
def _read(offers: str) -> tuple[_Read, ...]:
    """Return the usable entries of a worker's offers. Cached, because every request needs them."""
    found: list[_Read] = []
    for kind, items in _lists(json.loads(offers)):
        for item in items[:MAX_ITEMS]:
            try:
                entry = check(kind, item)
            except NotUsable as error:
                name = item.get("name") if isinstance(item, Mapping) else item
                log.error(
                    "something that a worker offers is left out of the %s: %.100r: %s", kind, name, error
                )
            else:
                found.append(_Read(_key(entry), entry))
    return tuple(found)


def _lists(offers: object) -> Iterator[tuple[str, Sequence[Any]]]:
    for kind in KINDS:
        items = offers.get(kind) if isinstance(offers, Mapping) else None
        yield kind, items if isinstance(items, list) else []


def _key(entry: Entry) -> Key:
    kind = next(kind for kind, type_ in KINDS.values() if isinstance(entry, type_))
    return (kind, entry.operation, entry.name) if isinstance(entry, StrategyEntry) else (kind, entry.name)


@lru_cache
def _built_in() -> set[Key]:
    return _keys(read_catalog())


def _keys(catalog: Catalog) -> set[Key]:
    entries: tuple[Entry, ...] = (*catalog.strategies, *catalog.datasets, *catalog.architectures)
    return {_key(entry) for entry in entries}


def _package_of(entry: Entry) -> str:
    assert entry.package is not None, "check() has seen to it"
    return entry.package.name
