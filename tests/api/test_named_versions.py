"""`head` or an alias stands wherever the number of a version may."""

from typing import Any

import pytest

from tests.api.serving import Served


@pytest.fixture
def digits(served: Served, name: str) -> str:
    """A model with versions 1 to 3, of which `production` names the second."""
    served.model(name)
    for label in ("1", "2", "3"):
        served.done(name, "learn", labels=[label])
    served.http.put(f"/v1/models/{name}/aliases/production", json={"version": 2}).raise_for_status()
    return name


@pytest.mark.parametrize(("named", "number"), [("production", 2), ("head", 3)])
@pytest.mark.parametrize(
    "rest",
    ["", "/report", "/report?level=quick", "/lineage", "/files/manifest.json", "/images/1/7.png?grid=2x2"],
)
def test_a_name_in_a_path_gives_what_the_number_gives(
    served: Served, digits: str, named: str, number: int, rest: str
) -> None:
    by_name = served.http.get(f"/v1/models/{digits}/versions/{named}{rest}")
    by_number = served.http.get(f"/v1/models/{digits}/versions/{number}{rest}")
    assert by_name.status_code == by_number.status_code == 200
    assert by_name.content == by_number.content
    assert by_name.headers["ETag"] == by_number.headers["ETag"]
    if rest.startswith(("/report", "/files", "/images")):
        assert by_name.headers["X-Model-Version"] == by_number.headers["X-Model-Version"] == str(number)
        location = by_name.headers["Content-Location"]
        assert location == f"/v1/models/{digits}/versions/{number}{rest}"
        assert served.http.get(location).content == by_name.content


def test_no_cache_uses_what_a_name_gave_without_asking_again(served: Served, digits: str) -> None:
    for rest in ("images/1/7.png", "files/decoder.onnx", "report"):
        answer = served.http.get(f"/v1/models/{digits}/versions/production/{rest}")
        assert answer.headers["Cache-Control"] == "private, no-cache"
        known = {"If-None-Match": answer.headers["ETag"]}
        unchanged = served.http.get(answer.url.path, headers=known)
        assert (unchanged.status_code, unchanged.headers["X-Model-Version"]) == (304, "2")
        served.http.put(
            f"/v1/models/{digits}/aliases/production", json={"version": 3}, headers={"If-Match": "*"}
        )
        moved = served.http.get(answer.url.path, headers=known)
        assert (moved.status_code, moved.headers["X-Model-Version"]) == (200, "3")
        served.http.put(
            f"/v1/models/{digits}/aliases/production", json={"version": 2}, headers={"If-Match": "*"}
        )
    by_number = served.http.get(f"/v1/models/{digits}/versions/2/images/1/7.png")
    assert by_number.headers["Cache-Control"] == "private, max-age=60"


def test_a_label_with_a_space_has_a_content_location(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["capital A"], dataset="letters")
    answer = served.http.get(f"/v1/models/{name}/versions/head/images/capital%20A/0.png?scale=2")
    assert (
        answer.headers["Content-Location"] == f"/v1/models/{name}/versions/1/images/capital%20A/0.png?scale=2"
    )


def test_letters_of_a_name_may_be_percent_encoded(served: Served, digits: str) -> None:
    answer = served.http.get(f"/v1/models/{digits}/versions/%68ead/images/1/3.png")
    assert answer.headers["Content-Location"] == f"/v1/models/{digits}/versions/3/images/1/3.png"


def test_two_names_are_compared(served: Served, digits: str) -> None:
    compared = served.http.get(f"/v1/models/{digits}/compare?from=production&to=head").json()
    assert (compared["from"]["version"], compared["to"]["version"]) == (2, 3)


def test_a_sample_records_the_number_that_a_name_stood_for(served: Served, digits: str) -> None:
    body: dict[str, Any] = {"labels": ["1"], "seed": 3, "version": "production"}
    drawn = served.http.post(f"/v1/models/{digits}/samples", json=body)
    sample = drawn.headers["X-Sample-Id"]
    served.http.put(f"/v1/models/{digits}/aliases/production", json={"version": 3}, headers={"If-Match": "*"})
    assert served.http.get(f"/v1/samples/{sample}").json()["version"] == 2
    assert served.http.get(f"/v1/samples/{sample}/images").content == drawn.content
    assert served.http.post(f"/v1/models/{digits}/samples", json=body).headers["X-Model-Version"] == "3"


def test_a_job_is_about_the_version_that_had_the_name_when_it_was_accepted(
    served: Served, digits: str
) -> None:
    job = served.submit(digits, "evaluate", version="production")
    assert job["evaluated_version"] == 2
    served.http.put(f"/v1/models/{digits}/aliases/production", json={"version": 3}, headers={"If-Match": "*"})
    assert served.http.get(f"/v1/jobs/{job['id']}").json()["evaluated_version"] == 2
    stale = served.http.post(f"/v1/models/{digits}/forget", json={"labels": ["3"], "base_version": "head"})
    assert stale.status_code == 202
    assert stale.json()["base_version"] == 3


def test_an_alias_of_another_version_than_the_head_is_a_stale_base(served: Served, digits: str) -> None:
    refused = served.http.post(
        f"/v1/models/{digits}/forget", json={"labels": ["1"], "base_version": "production"}
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "stale_base")


@pytest.mark.parametrize("named", ["canary", "Head", "v2", "0", "2x!"])
def test_what_names_no_version_is_not_found(served: Served, digits: str, named: str) -> None:
    answer = served.http.get(f"/v1/models/{digits}/versions/{named}")
    assert answer.status_code == 404
    assert answer.json()["code"] == ("alias_not_found" if named == "canary" else "version_not_found")
