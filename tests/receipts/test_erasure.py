"""A receipt says of every store what happened there, and no more than that."""

from datetime import UTC, datetime
from typing import Any

import pytest

from reports import Guarantee
from service.receipts.erasure import ForgetHistory, erasure_by_store
from service.registry.tables import JobRow, PurgeRow, VersionRow
from tests.reports.made_up import quick_report


def version(number: int, labels: dict[str, int | None], **fields: Any) -> VersionRow:
    defaults = {"report": report("approximate"), "files": {}}
    return VersionRow(number=number, labels=labels, **(defaults | fields))


def report(guarantee: Guarantee) -> dict[str, Any]:
    return quick_report(["1"], {}, guarantee=guarantee).as_json()


def history(**changes: Any) -> ForgetHistory:
    """2 was forgotten in version 3; it was learned in version 2."""
    parent = version(2, {"1": 0, "2": 1}, revoked_by="job_3")
    fields: dict[str, Any] = {
        "job": JobRow(labels=["2"], strategy="surrogate"),
        "version": version(3, {"1": 0}),
        "parent": parent,
        "older": [parent],
        "first_learned": 2,
        "datasets": ["mnist"],
        "purge": None,
        "has_fisher_stored": False,
    }
    return ForgetHistory(**(fields | changes))


def entry(store: str, **changes: Any) -> tuple[str, str]:
    """State and detail of one of its stores."""
    found = {one.store: (one.state, one.detail) for one in erasure_by_store(history(**changes))}
    return found[store]


EXACT = report("exact")
DROPPED = {"parent": version(2, {"1": 0, "2": None}), "version": version(3, {"1": 0}, report=EXACT)}


def test_every_detail_is_made_of_whole_sentences() -> None:
    purged = version(3, {"1": 0}, purged_by="job_9", files={"forgotten-2.png": {}})
    for changes in (
        {},
        DROPPED,
        {"purge": PurgeRow(keys=[])},
        {"version": version(3, {}), "older": []},
        {"version": purged, "has_fisher_stored": True},
        {"version": purged, "has_fisher_stored": None},
    ):
        for one in erasure_by_store(history(**changes)):
            assert one.detail.endswith("."), one
            assert one.detail[0].isupper() or one.detail.startswith("forgotten-"), one


def test_changed_weights_are_said_to_descend_from_weights_that_learned_the_label() -> None:
    state, detail = entry("weights")
    assert state == "changed"
    assert "changed by surrogate" in detail
    assert "weights descend from weights that had learned them" in detail


def test_weights_made_without_the_label_are_said_to_be() -> None:
    assert entry("weights", version=version(3, {"1": 0}, report=EXACT)) == (
        "made without the labels",
        "Version 3 was made from weights that never learned these labels.",
    )


def test_a_dropped_network_is_said_to_be_dropped_and_what_the_main_one_learned_is_not_hidden() -> None:
    state, never = entry("weights", **DROPPED, first_learned=None)
    assert (state, "The main network never learned these labels" in never) == ("dropped", True)
    _, before = entry("weights", **DROPPED, first_learned=1)
    assert "The main network had learned one of these labels in version 1" in before
    assert entry("Fisher information", **DROPPED)[0] == "dropped"


def test_a_dropped_network_makes_nothing_exact_if_the_main_one_learned_the_label_once() -> None:
    assert history(**DROPPED, first_learned=None).guarantee == "exact"
    assert history(**DROPPED, first_learned=1).guarantee == "approximate"
    made_without = version(3, {"1": 0}, report=EXACT)
    assert history(version=made_without).guarantee == "exact", "whoever learned it, this network did not"
    assert history().guarantee == "approximate"


def test_the_guarantee_in_the_findings_of_release_0_1_0_is_taken() -> None:
    old: dict[str, Any] = {"accuracy": None, "n": 0, "interval": None, "threshold": None, "verdict": None}
    old |= {"labels": {}}
    capacity = {"parameters": 1, "isolated_parameters": {}, "encoder_widths": [1], "decoder_widths": [1]}
    document = {"level": "quick", "n": 1, "seed": 0, "judge": {}, "retained": old, "forgotten": old}
    document |= {"capacity": capacity, "criteria": []}
    for findings, guarantee in (({"guarantee": "exact"}, "exact"), ({}, "approximate")):
        of_release = version(3, {"1": 0}, report=document | {"findings": findings})
        assert history(version=of_release).guarantee == guarantee


def test_a_main_network_that_holds_no_label_is_said_to_have_no_fisher_information() -> None:
    empty = version(3, {"9": None}, report=EXACT)
    assert entry("Fisher information", version=empty, parent=version(2, {"2": 1, "9": None})) == (
        "none",
        "The main network of version 3 holds no label, so it has no Fisher information.",
    )
    state, detail = entry("Fisher information", version=empty, parent=version(2, {"2": None, "9": None}))
    assert state == "dropped"
    assert "The main network holds no label" in detail


def test_fisher_information_is_said_to_be_stored_where_it_is() -> None:
    store = "Fisher information"
    words = {False: "is stored without it", True: "Release 0.1.0 made version 3", None: "cannot be read"}
    states = {False: "not stored", True: "stored", None: "unknown"}
    for stored, state in states.items():
        found, detail = entry(store, has_fisher_stored=stored)
        assert (found, words[stored] in detail) == (state, True)
        assert "images drawn of the labels that the network retains" in detail
    assert entry(store, **DROPPED, has_fisher_stored=True)[0] == "dropped"


def test_older_versions_are_told_apart_by_what_became_of_them() -> None:
    older = [
        version(2, {"2": 1}, revoked_by="job_3", purged_by="job_9"),
        version(3, {"2": 1}, revoked_by="job_3"),
        version(4, {"1": 0}),
        version(5, {"1": 0}),
    ]
    state, detail = entry("older versions", older=older)
    assert state == "kept"
    named = [detail.find(f"{words}: ") for words in ("Version 2", "Version 3", "Versions 4, 5")]
    assert -1 not in named
    assert named == sorted(named)
    assert entry("older versions", older=older[:2])[0] == "revoked"
    assert entry("older versions", older=[older[0], older[2]])[0] == "kept", "that one is served"
    assert entry("older versions", older=older[:1], purge=PurgeRow(keys=[])) == (
        "purged",
        "Version 2: All files are deleted except report and manifest. The service refuses requests for "
        "anything else (HTTP status 410).",
    )
    assert entry("older versions", older=[]) == ("kept", "There are none.")


def test_pictures_of_forgotten_labels_are_named_where_there_are_any() -> None:
    store = "pictures of forgotten labels"
    drawn = version(3, {"1": 0}, files={"forgotten-0.png": {}, "forgotten-2.png": {}})
    state, detail = entry(store, version=drawn)
    assert state == "kept"
    assert detail.startswith("forgotten-2.png: sixteen images each")
    assert "retained" not in detail
    before = version(
        3, {"1": 0, "4": 1}, files={"forgotten-2.png": {}, "before-1.png": {}, "before-4.png": {}}
    )
    _, detail = entry(store, version=before)
    assert "Version 3 also has 8 images of each retained label (1, 4)" in detail
    assert "drew before they were forgotten" not in detail
    assert entry(store, **DROPPED) == ("none", "No network is left that could draw these labels.")


def test_pictures_of_what_a_label_drew_before_are_named_until_a_purge_deletes_them() -> None:
    store = "pictures of forgotten labels"
    drawn = version(3, {"1": 0}, files={"forgotten-2.png": {}, "before-2.png": {}})
    state, detail = entry(store, version=drawn)
    assert state == "kept"
    assert "is kept, too, as evidence: before-2.png of version 3, sixteen images" in detail
    assert "Without a purge they stay; a purge deletes them." in detail
    purged = version(3, {"1": 0}, files={"forgotten-2.png": {}})
    deleted = PurgeRow(keys=[{"version": 3, "file": "before-2.png"}])
    assert "drew before are deleted" in entry(store, version=purged, purge=deleted)[1]
    of_a_retained_label = PurgeRow(keys=[{"version": 3, "file": "before-1.png"}])
    detail = entry(store, version=purged, purge=of_a_retained_label)[1]
    assert "drew before" not in detail, "release 0.1.0 made no such picture"


@pytest.mark.parametrize("by", [{"purged_by": "job_9"}, {"deleted_at": datetime(2026, 1, 2, tzinfo=UTC)}])
def test_what_was_deleted_after_the_forget_is_not_said_to_be_kept(by: dict[str, Any]) -> None:
    """Another forget purged its version, or a client deleted it, before the receipt was signed again."""
    files: dict[str, Any] = {"forgotten-2.png": {}, "before-2.png": {}}
    gone = version(3, {"1": 0}, files=files, **by)
    assert entry("pictures of forgotten labels", version=gone) == (
        "deleted",
        "Those of version 3 were deleted later, with its other files.",
    )
    assert entry("weights", version=gone)[1].endswith(" The file of its weights was deleted later.")
    for stored, state in {True: "deleted", None: "deleted", False: "not stored"}.items():
        assert entry("Fisher information", version=gone, has_fisher_stored=stored)[0] == state
    older = [version(2, {"1": 0}, files={"before-2.png": {}})]
    state, detail = entry("pictures of forgotten labels", version=gone, older=older)
    assert state == "kept"
    assert "before-2.png of version 2, sixteen" in detail


def test_an_exact_forget_names_the_pictures_that_an_earlier_version_keeps() -> None:
    """The label was forgotten approximately in version 2, and is forgotten exactly now."""
    older = [version(2, {"1": 0}, files={"before-2.png": {}, "forgotten-2.png": {}})]
    state, detail = entry(
        "pictures of forgotten labels", older=older, version=version(3, {"1": 0}, report=EXACT)
    )
    assert state == "kept"
    assert "before-2.png of version 2" in detail
    held = [version(2, {"1": 0, "2": 1}, files={"before-2.png": {}})]  # of a label that it retained
    assert "before-2.png" not in entry("pictures of forgotten labels", older=held)[1]


def test_decoders_leave_memory_only_with_their_files() -> None:
    assert entry("decoder caches")[0] == "refused"
    assert entry("decoder caches", purge=PurgeRow(keys=[]))[0] == "dropped"
