"""A receipt says of every store what happened there, and no more than that."""

from typing import Any

from service.receipts.erasure import History, stores
from service.registry.tables import JobRow, PurgeRow, VersionRow


def version(number: int, labels: dict[str, int | None], **fields: Any) -> VersionRow:
    return VersionRow(number=number, labels=labels, **({"report": {}, "files": {}} | fields))


def history(**changes: Any) -> History:
    """2 was forgotten in version 3; it was learned in version 2."""
    parent = version(2, {"1": 0, "2": 1}, revoked_by="job_3")
    told: dict[str, Any] = {
        "job": JobRow(labels=["2"], strategy="surrogate"),
        "version": version(3, {"1": 0}),
        "parent": parent,
        "older": [parent],
        "first_learned": 2,
        "datasets": ["mnist"],
        "purge": None,
    }
    return History(**(told | changes))


def told(store: str, **changes: Any) -> tuple[str, str]:
    """State and detail of one of its stores."""
    found = {one.store: (one.state, one.detail) for one in stores(history(**changes))}
    return found[store]


EXACT = {"findings": {"guarantee": "exact"}}
DROPPED = {"parent": version(2, {"1": 0, "2": None}), "version": version(3, {"1": 0}, report=EXACT)}


def test_changed_weights_are_said_to_descend_from_what_knew_the_label() -> None:
    state, detail = told("weights")
    assert state == "changed"
    assert "changed by surrogate" in detail
    assert "descend from those that had learned them" in detail


def test_weights_made_without_the_label_are_said_to_be() -> None:
    assert told("weights", version=version(3, {"1": 0}, report=EXACT)) == (
        "made without",
        "version 3 was made from weights that never learned these labels",
    )


def test_a_dropped_network_is_said_to_be_dropped_and_what_the_main_one_knew_is_not_hidden() -> None:
    state, never = told("weights", **DROPPED, first_learned=None)
    assert (state, "the main network never learned them" in never) == ("dropped", True)
    _, before = told("weights", **DROPPED, first_learned=1)
    assert "the main network had learned one of them in version 1, and may descend from that" in before
    assert told("Fisher", **DROPPED)[0] == "dropped"


def test_a_dropped_network_makes_nothing_exact_if_the_main_one_learned_the_label_once() -> None:
    assert history(**DROPPED, first_learned=None).guarantee == "exact"
    assert history(**DROPPED, first_learned=1).guarantee == "approximate"
    made_without = version(3, {"1": 0}, report=EXACT)
    assert history(version=made_without).guarantee == "exact", "a network made anew is, whoever learned it"
    assert history().guarantee == "approximate"


def test_a_main_network_that_holds_no_label_is_said_to_have_no_fisher() -> None:
    alone = version(3, {"9": None}, report=EXACT)
    assert told("Fisher", version=alone, parent=version(2, {"2": 1, "9": None})) == (
        "none",
        "the main network of version 3 holds no label, and there is no Fisher of it",
    )
    dropped = told("Fisher", version=alone, parent=version(2, {"2": None, "9": None}))
    assert dropped[0] == "dropped"
    assert "the main network holds no label" in dropped[1]
    assert told("Fisher") == (
        "made anew",
        "version 3 remembers one taken anew over draws of the labels it retains",
    )


def test_older_versions_are_told_apart_by_what_became_of_them() -> None:
    older = [
        version(2, {"2": 1}, revoked_by="job_3", purged_by="job_9"),
        version(3, {"2": 1}, revoked_by="job_3"),
        version(4, {"1": 0}),
        version(5, {"1": 0}),
    ]
    state, detail = told("older versions", older=older)
    assert state == "kept"
    assert [part.partition(":")[0] for part in detail.split("; ")] == [
        "version 2",
        "version 3",
        "versions 4, 5",
    ]
    assert told("older versions", older=older[:2])[0] == "revoked"
    assert told("older versions", older=[older[0], older[2]])[0] == "kept", "that one is served"
    assert told("older versions", older=older[:1], purge=PurgeRow()) == (
        "purged",
        "version 2: files deleted but for report and manifest, every answer 410",
    )
    assert told("older versions", older=[]) == ("kept", "there are none")


def test_pictures_of_what_is_left_are_named_where_there_are_any() -> None:
    drawn = version(3, {"1": 0}, files={"forgotten-0.png": {}, "forgotten-2.png": {}})
    state, detail = told("pictures of what is left", version=drawn)
    assert state == "kept"
    assert detail.startswith(
        "forgotten-2.png: sixteen draws each, a file of version 3 and of those made from"
    )
    assert "label that stays" not in detail
    before = version(
        3, {"1": 0, "4": 1}, files={"forgotten-2.png": {}, "before-1.png": {}, "before-4.png": {}}
    )
    _, detail = told("pictures of what is left", version=before)
    assert ". Of 1, 4, which stay, 8 draws each of the version before are files of version 3 alone" in detail
    assert told("pictures of what is left", **DROPPED) == (
        "none",
        "no network is left that could draw these labels",
    )


def test_decoders_leave_memory_only_with_their_files() -> None:
    assert told("decoder caches")[0] == "refused"
    assert told("decoder caches", purge=PurgeRow())[0] == "dropped"
