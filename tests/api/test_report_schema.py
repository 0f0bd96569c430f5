"""The JSON Schema of reports is published beside the catalog, and every report answered follows it."""

import json

import pytest
from jsonschema import Draft202012Validator

from reports import Report
from tests.api.serving import Served
from tests.reports.made_up import full_report, quick_report

QUICK = quick_report(["1"], {"3": 0.012, "4": None})


@pytest.fixture
def validator(served: Served) -> Draft202012Validator:
    schema = served.http.get("/v1/catalog/report-schema").json()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("report", [QUICK, full_report(QUICK)])
def test_reports_follow_the_published_schema(validator: Draft202012Validator, report: Report) -> None:
    document = report.as_json()
    validator.validate(document)
    document["retained"]["accuracy"] = document["retained"].pop("value")
    assert not validator.is_valid(document), "it is not a schema that everything follows"


def test_the_schema_is_part_of_the_described_api(served: Served) -> None:
    described = served.http.get("/openapi.json").json()
    assert "/v1/catalog/report-schema" in described["paths"]
    answers = described["paths"]["/v1/models/{model}/versions/{number}/report"]["get"]["responses"]["200"]
    assert {"application/json", "text/html"} <= answers["content"].keys()
    assert "FullReportObject" in json.dumps(answers["content"]["application/json"])
