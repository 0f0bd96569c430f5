"""The table of bad inputs: each a request, and the answer it must get."""

from dataclasses import dataclass, field
from typing import Any

from tests.requests.archives import as_npz, doodles, zipped

Body = bytes | dict[str, Any] | list[Any] | str | int | None


@dataclass(frozen=True)
class Bad:
    """A bad request, and the answer it must get. `{m}`: a model with versions 1 (revoked) and 2."""

    name: str
    method: str
    path: str
    status: int
    code: str
    body: Body = None
    pointers: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)


def get(name: str, path: str, status: int, code: str, *pointers: str, **more: Any) -> Bad:
    return Bad(name, "GET", path, status, code, pointers=pointers, **more)


def learn(name: str, status: int, code: str, *pointers: str, body: Body, **more: Any) -> Bad:
    return Bad(name, "POST", "/v1/models/{m}/learn", status, code, body, pointers, **more)


def forget(name: str, status: int, code: str, *pointers: str, body: Body) -> Bad:
    return Bad(name, "POST", "/v1/models/{m}/forget", status, code, body, pointers)


def resize(name: str, status: int, code: str, *pointers: str, body: Body) -> Bad:
    return Bad(name, "POST", "/v1/models/{m}/resize", status, code, body, pointers)


def evaluate(name: str, status: int, code: str, *pointers: str, body: Body) -> Bad:
    return Bad(name, "POST", "/v1/models/{m}/evaluate", status, code, body, pointers)


def create(name: str, status: int, code: str, *pointers: str, body: Body) -> Bad:
    return Bad(name, "POST", "/v1/models", status, code, body, pointers)


def upload(name: str, status: int, code: str, *pointers: str, path: str = "cats", **more: Any) -> Bad:
    headers = more.pop("headers", {"Content-Type": "application/zip"})
    return Bad(name, "PUT", f"/v1/datasets/{path}", status, code, pointers=pointers, headers=headers, **more)


def sample(name: str, status: int, code: str, *pointers: str, body: Body) -> Bad:
    return Bad(name, "POST", "/v1/models/{m}/samples", status, code, body, pointers)


def image(name: str, path: str, status: int, code: str, *pointers: str) -> Bad:
    return Bad(name, "GET", "/v1/models/{m}/versions/" + path, status, code, pointers=pointers)


DEEP = b'{"labels":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

NOT_JSON = [
    learn("empty body", 400, "body_required", body=b""),
    learn("blank body", 400, "body_required", body=b" \n"),
    learn("half an object", 400, "invalid_json", body=b'{"labels":'),
    learn("two documents", 400, "invalid_json", body=b"{}{}"),
    learn("single quotes", 400, "invalid_json", body=b"{'labels': ['3']}"),
    learn("NaN", 400, "invalid_json", body=b'{"labels": ["3"], "params": {"learning_rate": NaN}}'),
    learn("Infinity", 400, "invalid_json", body=b'{"labels": ["3"], "seed": -Infinity}'),
    learn("1e999", 400, "invalid_json", body=b'{"labels": ["3"], "seed": 1e999}'),
    learn("an endless integer", 400, "invalid_json", body=b'{"seed": ' + b"9" * 5000 + b"}"),
    learn("a repeated key", 400, "invalid_json", body=b'{"labels": ["3"], "labels": ["4"]}'),
    learn("bytes that are not UTF-8", 400, "invalid_json", body=b'{"labels": ["\xff\xfe"]}'),
    learn("half a surrogate pair", 400, "invalid_json", body=b'{"labels": ["\\ud800"]}'),
    learn("half a surrogate pair as a key", 400, "invalid_json", body=b'{"\\ud800": 1}'),
    learn("a byte order mark", 400, "invalid_json", body=b"\xef\xbb\xbf{}"),
    learn("nested 100,000 deep", 400, "json_too_deep", body=DEEP),
    learn("nested 40 deep", 400, "json_too_deep", body=b'{"params":' + b"[" * 40 + b"]" * 40 + b"}"),
    learn("plain text", 415, "unsupported_media_type", body=b"{}", headers={"Content-Type": "text/plain"}),
    learn("a form", 415, "unsupported_media_type", body=b"a=b",
          headers={"Content-Type": "application/x-www-form-urlencoded"}),
    learn("no media type", 415, "unsupported_media_type", body=b"{}", headers={"Content-Type": ""}),
    learn("more than a MiB", 413, "payload_too_large", body=b'{"a": "' + b"x" * (1 << 20) + b'"}'),
]  # fmt: skip

NOT_THERE = [
    get("unknown route", "/v1/modles", 404, "route_not_found"),
    get("a slash too many", "/v1/models/", 404, "route_not_found"),
    get("outside", "/..%2f..%2fetc/passwd", 404, "route_not_found"),
    get("a console file that is none", "/console/..%2fcatalog", 404, "route_not_found"),
    get("a console file not of ours", "/console/secret.html", 404, "route_not_found"),
    get("unknown model", "/v1/models/nobody", 404, "model_not_found"),
    get("unknown model id", "/v1/models/mdl_00000000000000000000000000", 404, "model_not_found"),
    get("a NUL for a model", "/v1/models/%00", 404, "model_not_found"),
    get("a broken byte for a model", "/v1/models/%ff", 404, "model_not_found"),
    get("an endless model", "/v1/models/" + "m" * 5000, 404, "model_not_found"),
    get("unknown job", "/v1/jobs/job_00000000000000000000000000", 404, "job_not_found"),
    get("a NUL for a job", "/v1/jobs/job_%00", 404, "job_not_found"),
    get("the receipt of an unknown job", "/v1/jobs/job_00000000000000000000000000/receipt", 404,
        "job_not_found"),
    get("the receipt of a NUL", "/v1/jobs/job_%00/receipt", 404, "job_not_found"),
    get("an unknown key", "/v1/keys/encryption", 404, "key_not_found"),
    Bad("revoke an unknown key", "DELETE", "/v1/keys/key_0", 404, "key_not_found"),
    get("an unknown project", "/v1/projects/nobody", 404, "project_not_found"),
    get("messages of an unknown webhook", "/v1/webhooks/whk_0/deliveries/msg_0", 404, "webhook_not_found"),
    Bad("delete an unknown project", "DELETE", "/v1/projects/nobody", 404, "project_not_found"),
    Bad("delete the default project", "DELETE", "/v1/projects/default", 409, "project_in_use"),
    get("models of an unknown project", "/v1/models", 404, "project_not_found",
        headers={"Palimpsest-Project": "nobody"}),
    Bad("PUT on the key", "PUT", "/v1/keys/signing", 405, "method_not_allowed"),
    get("a receipt as XML", "/v1/jobs/job_nothing/receipt", 406, "not_acceptable",
        headers={"Accept": "text/xml"}),
    get("unknown sample", "/v1/samples/smp_00000000000000000000000000", 404, "sample_not_found"),
    get("images of an unknown sample", "/v1/samples/smp_%00/images", 404, "sample_not_found"),
    get("jobs of an unknown model", "/v1/jobs?model=nobody", 404, "model_not_found"),
    get("jobs of a NUL", "/v1/jobs?model=%00", 404, "model_not_found"),
    get("unknown version", "/v1/models/{m}/versions/9", 404, "version_not_found"),
    get("version 0", "/v1/models/{m}/versions/0", 404, "version_not_found"),
    get("version 2^64", "/v1/models/{m}/versions/18446744073709551616", 404, "version_not_found"),
    get("the head of nothing", "/v1/models/{empty}/versions/head", 409, "model_has_no_version"),
    get("an unknown alias", "/v1/models/{m}/versions/production", 404, "alias_not_found"),
    get("unknown file", "/v1/models/{m}/versions/2/files/weights.pt", 404, "file_not_found"),
    get("a file outside", "/v1/models/{m}/versions/2/files/..%2f..%2fmain", 404, "route_not_found"),
    Bad("learn by nobody", "POST", "/v1/models/nobody/learn", 404, "model_not_found", {"labels": ["3"]}),
    Bad("samples of nobody", "POST", "/v1/models/nobody/samples", 404, "model_not_found", {"labels": ["3"]}),
    Bad("cancel nothing", "POST", "/v1/jobs/job_nothing/cancel", 404, "job_not_found"),
    get("an unknown dataset", "/v1/datasets/cats", 404, "dataset_not_found"),
    get("a NUL for a dataset", "/v1/datasets/%00", 404, "dataset_not_found"),
    Bad("DELETE a dataset of the service", "DELETE", "/v1/datasets/mnist", 409, "dataset_built_in"),
    Bad("DELETE no dataset", "DELETE", "/v1/datasets/cats", 404, "dataset_not_found"),
    Bad("POST to datasets", "POST", "/v1/datasets/mnist", 405, "method_not_allowed"),
    Bad("PUT on learn", "PUT", "/v1/models/{m}/learn", 405, "method_not_allowed"),
    Bad("DELETE a job", "DELETE", "/v1/jobs/job_nothing", 405, "method_not_allowed"),
    Bad("PATCH models", "PATCH", "/v1/models", 405, "method_not_allowed"),
    get("XML wanted", "/v1/models", 406, "not_acceptable", headers={"Accept": "text/xml"}),
    get("anything but JSON", "/v1/models", 406, "not_acceptable",
        headers={"Accept": "application/json;q=0, text/html"}),
]  # fmt: skip

HEADERS = [
    get("a header of ours that is none", "/v1/models", 400, "header_not_supported",
        headers={"Palimpsest-Projects": "default"}),
    get("such a header where no key is needed", "/livez", 400, "header_not_supported",
        headers={"palimpsest-dry-run": "true"}),
    get("a project for what belongs to none", "/v1/signing-keys", 400, "header_not_supported",
        headers={"Palimpsest-Project": "default"}),
    get("a project of the health", "/readyz", 400, "header_not_supported",
        headers={"Palimpsest-Project": "default"}),
    get("an event to go on after in a list", "/v1/jobs", 400, "header_not_supported",
        headers={"Last-Event-ID": "1"}),
    learn("an event to go on after", 400, "header_not_supported", body={"labels": ["7"]},
          headers={"Last-Event-ID": "1"}),
]  # fmt: skip

CHANGES = [
    learn("an array", 422, "validation_failed", "", body=["3"]),
    learn("null", 422, "validation_failed", "", body=b"null"),
    learn("a string", 422, "validation_failed", "", body="3"),
    learn("a number", 422, "validation_failed", "", body=3),
    learn("no labels", 422, "required", "/labels", body={}),
    learn("an empty list", 422, "required", "/labels", body={"labels": []}),
    learn("labels not a list", 422, "wrong_type", "/labels", body={"labels": "3"}),
    learn("labels null", 422, "wrong_type", "/labels", body={"labels": None}),
    learn("a number for a label", 422, "wrong_type", "/labels/1", body={"labels": ["3", 4]}),
    learn("a duplicate", 422, "duplicate_item", "/labels/2", body={"labels": ["7", "8", "7"]}),
    learn("two duplicates", 422, "duplicate_item", "/labels/1", "/labels/3",
          body={"labels": ["7", "7", "8", "8"]}),
    learn("an unknown label", 422, "unknown_label", "/labels/1", body={"labels": ["7", "sneaker"]}),
    learn("a label with a NUL", 422, "invalid_name", "/labels/0", body={"labels": ["\0"]}),
    learn("a label with an invisible end", 422, "invalid_name", "/labels/0", body={"labels": ["7\u200b"]}),
    learn("a full-width digit", 422, "invalid_name", "/labels/0", body={"labels": ["\uff17"]}),
    learn("a blank name", 422, "invalid_name", "/as/7", body={"labels": ["7"], "as": {"7": " "}}),
    learn("a label with a slash", 422, "invalid_name", "/labels/0", body={"labels": ["../7"]}),
    learn("200 labels", 422, "out_of_range", "/labels", body={"labels": [str(i) for i in range(200)]}),
    learn("an unknown field", 422, "unknown_field", "/epoch", body={"labels": ["7"], "epoch": 3}),
    learn("an endless field", 422, "unknown_field", "/" + "f" * 298 + "…",
          body={"labels": ["7"], "f" * 100_000: 3}),
    learn("10,000 unknown params", 422, "unknown_field", *(f"/params/{i:04}" for i in range(20)),
          body={"labels": ["7"], "params": {f"{i:04}": 1 for i in range(10_000)}}),
    learn("an endless dataset", 422, "dataset_not_found", "/dataset",
          body={"labels": ["7"], "dataset": "x" * 100_000}),
    learn("an endless param", 422, "wrong_type", "/params/steps",
          body={"labels": ["7"], "params": {"steps": "x" * 100_000}}),
    learn("a callback", 422, "unknown_field", "/callback_url",
          body={"labels": ["7"], "callback_url": "http://127.0.0.1/"}),
    learn("a field with a slash", 422, "unknown_field", "/a~1b", body={"labels": ["7"], "a/b": 3}),
    learn("an unknown dataset", 422, "dataset_not_found", "/dataset", body={"labels": ["7"], "dataset": "x"}),
    learn("an unknown strategy", 422, "strategy_not_found", "/strategy",
          body={"labels": ["7"], "strategy": "os.system"}),
    learn("a strategy of another operation", 422, "strategy_not_found", "/strategy",
          body={"labels": ["7"], "strategy": "surrogate"}),
    learn("learning rate 0", 422, "out_of_range", "/params/learning_rate",
          body={"labels": ["7"], "params": {"learning_rate": 0}}),
    learn("learning rate -1", 422, "out_of_range", "/params/learning_rate",
          body={"labels": ["7"], "params": {"learning_rate": -1}}),
    learn("learning rate 1e9", 422, "out_of_range", "/params/learning_rate",
          body={"labels": ["7"], "params": {"learning_rate": 1e9}}),
    learn("a batch over the cap", 422, "out_of_range", "/params/batch_size",
          body={"labels": ["7"], "params": {"batch_size": 5000}}),
    learn("steps as text", 422, "wrong_type", "/params/steps",
          body={"labels": ["7"], "params": {"steps": "100"}}),
    learn("an unknown param", 422, "unknown_field", "/params/epoch",
          body={"labels": ["7"], "params": {"epoch": 3}}),
    learn("two things wrong", 422, "validation_failed", "/params/epoch", "/params/steps",
          body={"labels": ["7"], "params": {"epoch": 3, "steps": 0}}),
    learn("params a list", 422, "wrong_type", "/params", body={"labels": ["7"], "params": []}),
    learn("an unknown retention", 422, "unknown_value", "/retention",
          body={"labels": ["7"], "retention": "for ever"}),
    learn("seed -1", 422, "out_of_range", "/seed", body={"labels": ["7"], "seed": -1}),
    learn("seed 2^53", 422, "out_of_range", "/seed", body={"labels": ["7"], "seed": 2**53}),
    learn("seed 1.5", 422, "wrong_type", "/seed", body={"labels": ["7"], "seed": 1.5}),
    learn("seed true", 422, "wrong_type", "/seed", body={"labels": ["7"], "seed": True}),
    learn("base version 0", 422, "out_of_range", "/base_version", body={"labels": ["7"], "base_version": 0}),
    learn("a stale base", 409, "stale_base", body={"labels": ["7"], "base_version": 1}),
    learn("an accuracy of 95", 422, "out_of_range", "/acceptance/retained_accuracy_min",
          body={"labels": ["7"], "acceptance": {"retained_accuracy_min": 95}}),
    learn("an unknown criterion", 422, "unknown_field", "/acceptance/fid",
          body={"labels": ["7"], "acceptance": {"fid": 3}}),
    learn("a name for a label that is not requested", 422, "unknown_label", "/as/8", "/as/a~1b",
          body={"labels": ["7"], "as": {"8": "eight", "a/b": "c"}}),
    learn("two labels by one name", 422, "duplicate_item", "/as/7",
          body={"labels": ["7", "8"], "as": {"7": "8"}}),
    learn("one name for two labels", 422, "duplicate_item", "/as/8",
          body={"labels": ["7", "8"], "as": {"7": "x", "8": "x"}}),
    learn("a name with a slash", 422, "invalid_name", "/as/7", body={"labels": ["7"], "as": {"7": "a/b"}}),
    learn("a number for a name", 422, "wrong_type", "/as/7", body={"labels": ["7"], "as": {"7": 7}}),
    learn("names in a list", 422, "wrong_type", "/as", body={"labels": ["7"], "as": ["seven"]}),
    learn("names by the inner word", 422, "unknown_field", "/names", body={"labels": ["7"], "names": {}}),
    learn("a name already learned", 409, "label_already_learned", body={"labels": ["7"], "as": {"7": "1"}}),
    learn("a label already learned", 409, "label_already_learned", body={"labels": ["1"]}),
    learn("one new label, one already learned", 409, "label_already_learned", body={"labels": ["7", "1"]}),
    forget("no labels", 422, "required", "/labels", body={}),
    forget("an empty list", 422, "required", "/labels", body={"labels": []}),
    forget("a duplicate", 422, "duplicate_item", "/labels/1", body={"labels": ["1", "1"]}),
    forget("a label never learned", 404, "unknown_label", body={"labels": ["9"]}),
    forget("a label of no dataset", 404, "unknown_label", body={"labels": ["sneaker"]}),
    forget("one label learned, one never", 404, "unknown_label", body={"labels": ["1", "9"]}),
    forget("a guarantee that is none", 422, "unknown_value", "/guarantee",
           body={"labels": ["1"], "guarantee": "total"}),
    forget("an exact guarantee of an approximate strategy", 422, "contradiction", "/guarantee",
           body={"labels": ["1"], "guarantee": "exact", "strategy": "surrogate"}),
    forget("an approximate guarantee of an exact strategy", 422, "contradiction", "/guarantee",
           body={"labels": ["1"], "guarantee": "approximate", "strategy": "retrain"}),
    forget("purge as text", 422, "wrong_type", "/purge", body={"labels": ["1"], "purge": "yes"}),
    forget("purge null", 422, "wrong_type", "/purge", body={"labels": ["1"], "purge": None}),
    forget("an unknown strategy", 422, "strategy_not_found", "/strategy",
           body={"labels": ["1"], "strategy": "replay_ewc"}),
    forget("an unknown param", 422, "unknown_field", "/params/epoch",
           body={"labels": ["1"], "params": {"epoch": 3}}),
    forget("no steps", 422, "out_of_range", "/params/steps", body={"labels": ["1"], "params": {"steps": 0}}),
    forget("a stale base", 409, "stale_base", body={"labels": ["1"], "base_version": 1}),
    Bad("forget by nobody", "POST", "/v1/models/nobody/forget", 404, "model_not_found", {"labels": ["1"]}),
    learn("a purge", 422, "unknown_field", "/purge", body={"labels": ["7"], "purge": True}),
    forget("a name", 422, "unknown_field", "/as", body={"labels": ["1"], "as": {"1": "one"}}),
    forget("a dataset", 422, "unknown_field", "/dataset", body={"labels": ["1"], "dataset": "mnist"}),
    learn("a resize as text", 422, "wrong_type", "/resize", body={"labels": ["7"], "resize": "auto"}),
    learn("a resize without a policy", 422, "required", "/resize/policy",
          body={"labels": ["7"], "resize": {}}),
    learn("a resize by an unknown policy", 422, "policy_not_found", "/resize/policy",
          body={"labels": ["7"], "resize": {"policy": "halve"}}),
    learn("a resize with a seed", 422, "unknown_field", "/resize/seed",
          body={"labels": ["7"], "resize": {"policy": "prune", "seed": 1}}),
    forget("a resize with an unknown param", 422, "unknown_field", "/resize/params/epoch",
           body={"labels": ["1"], "resize": {"policy": "prune", "params": {"epoch": 3}}}),
    Bad("a resize after temporary labels alone", "POST", "/v1/models/{empty}/learn", 409,
        "nothing_permanent", {"labels": ["7"], "retention": "temporary", "resize": {"policy": "prune"}}),
    resize("no policy", 422, "required", "/policy", body={}),
    resize("an unknown policy", 422, "policy_not_found", "/policy", body={"policy": "halve"}),
    resize("a strategy of another policy", 422, "strategy_not_found", "/strategy",
           body={"policy": "prune", "strategy": "expand_units"}),
    resize("a share of 1", 422, "out_of_range", "/params/share",
           body={"policy": "prune", "params": {"share": 1}}),
    resize("an unknown strategy", 422, "strategy_not_found", "/strategy",
           body={"policy": "prune", "strategy": "surrogate"}),
    resize("an unknown param", 422, "unknown_field", "/params/epoch",
           body={"policy": "prune", "params": {"epoch": 3}}),
    resize("a stale base", 409, "stale_base", body={"policy": "prune", "base_version": 1}),
    Bad("resize by nobody", "POST", "/v1/models/nobody/resize", 404, "model_not_found", {"policy": "prune"}),
    resize("labels", 422, "unknown_field", "/labels", body={"policy": "prune", "labels": ["1"]}),
    Bad("resize nothing", "POST", "/v1/models/{empty}/resize", 409, "model_has_no_version",
        {"policy": "prune"}),
]  # fmt: skip

EVALUATIONS = [
    evaluate("version 0", 422, "out_of_range", "/version", body={"version": 0}),
    evaluate("a text for a number", 422, "invalid_name", "/version", body={"version": "2"}),
    evaluate("a list of versions", 422, "wrong_type", "/version", body={"version": [2]}),
    evaluate("an unknown alias", 404, "alias_not_found", body={"version": "production"}),
    evaluate("an unknown version", 404, "version_not_found", body={"version": 9}),
    evaluate("a revoked version", 409, "version_revoked", body={"version": 1}),
    evaluate("no references", 422, "out_of_range", "/params/seeds", body={"params": {"seeds": 0}}),
    evaluate("an unknown param", 422, "unknown_field", "/params/epochs", body={"params": {"epochs": 1}}),
    evaluate("a criterion", 422, "unknown_field", "/acceptance", body={"acceptance": {}}),
    evaluate("force", 422, "unknown_field", "/force", body={"force": True}),
    evaluate("labels", 422, "unknown_field", "/labels", body={"labels": ["1"]}),
    evaluate("an array", 422, "validation_failed", "", body=[]),
    Bad("evaluate nothing", "POST", "/v1/models/{empty}/evaluate", 409, "model_has_no_version", {}),
    Bad("evaluate by nobody", "POST", "/v1/models/nobody/evaluate", 404, "model_not_found", {}),
    learn("a worst label of 200 %", 422, "out_of_range", "/acceptance/worst_retained_accuracy_min",
          body={"labels": ["7"], "acceptance": {"worst_retained_accuracy_min": 2}}),
    learn("a promise for another job", 422, "unknown_field", "/acceptance/relapse_accuracy_max",
          body={"labels": ["7"], "acceptance": {"relapse_accuracy_max": {"3": 1}}}),
    create("a model that accepts 95", 422, "out_of_range", "/acceptance/retained_accuracy_min",
           body={"name": "a", "dataset": "mnist", "acceptance": {"retained_accuracy_min": 95}}),
    create("an unknown criterion", 422, "unknown_field", "/acceptance/fid",
           body={"name": "a", "dataset": "mnist", "acceptance": {"fid": 3}}),
    get("a report nobody measured", "/v1/models/{m}/versions/2/report?level=full", 404, "report_not_found"),
    get("a level that is none", "/v1/models/{m}/versions/2/report?level=deep", 422, "unknown_value",
        "/query/level"),
    get("a report as XML", "/v1/models/{m}/versions/2/report", 406, "not_acceptable",
        headers={"Accept": "text/xml"}),
    get("a report of no version", "/v1/models/{m}/versions/9/report", 404, "version_not_found"),
    get("a report of no job", "/v1/jobs/job_nothing/report", 404, "job_not_found"),
    get("a picture of no job", "/v1/jobs/job_nothing/report/recovered/3/candidate.png", 404, "job_not_found"),
    get("relapses of nobody", "/v1/models/nobody/relapse", 404, "model_not_found"),
    get("a comparison with nothing", "/v1/models/{m}/compare?from=1", 422, "required", "/query/to"),
    get("a comparison of version 0", "/v1/models/{m}/compare?from=0&to=1", 422, "out_of_range",
        "/query/from"),
    get("a comparison with an unknown alias", "/v1/models/{m}/compare?from=1&to=production", 404,
        "alias_not_found"),
    get("a comparison with what is not there", "/v1/models/{m}/compare?from=1&to=9", 404,
        "version_not_found"),
]  # fmt: skip

MODELS = [
    create("a taken name", 409, "model_exists", body={"name": "{m}", "dataset": "mnist"}),
    create("no name", 422, "required", "/name", body={"dataset": "mnist"}),
    create("an empty name", 422, "invalid_name", "/name", body={"name": "", "dataset": "mnist"}),
    create("a long name", 422, "invalid_name", "/name", body={"name": "m" * 10_000, "dataset": "mnist"}),
    create("a NUL in the name", 422, "invalid_name", "/name", body={"name": "a\0b", "dataset": "mnist"}),
    create("a line break in it", 422, "invalid_name", "/name", body={"name": "a\n", "dataset": "mnist"}),
    create("a path for a name", 422, "invalid_name", "/name", body={"name": "../a", "dataset": "mnist"}),
    create("an id for a name", 422, "invalid_name", "/name", body={"name": "mdl_1", "dataset": "mnist"}),
    create("a number for a name", 422, "wrong_type", "/name", body={"name": 3, "dataset": "mnist"}),
    create("an unknown dataset", 422, "dataset_not_found", "/dataset", body={"name": "a", "dataset": "cats"}),
    create("a latent of 0", 422, "out_of_range", "/network/latent",
           body={"name": "a", "dataset": "mnist", "network": {"latent": 0}}),
    create("an unknown architecture", 422, "architecture_not_found", "/network/architecture",
           body={"name": "a", "dataset": "mnist", "network": {"architecture": "gan"}}),
    create("weights from elsewhere", 422, "unknown_field", "/weights_uri",
           body={"name": "a", "dataset": "mnist", "weights_uri": "file:///etc/passwd"}),
    get("limit 0", "/v1/models?limit=0", 422, "out_of_range", "/query/limit"),
    get("limit 101", "/v1/jobs?limit=101", 422, "out_of_range", "/query/limit"),
    get("limit ten", "/v1/models?limit=ten", 422, "wrong_type", "/query/limit"),
    get("a NUL for a cursor", "/v1/models?after=%00", 422, "invalid_cursor", "/query/after"),
    get("a cursor from nowhere", "/v1/jobs?after=job_nothing", 422, "invalid_cursor", "/query/after"),
    get("a word for a version cursor", "/v1/models/{m}/versions?after=two", 422, "invalid_cursor",
        "/query/after"),
    get("a word for a model cursor", "/v1/models?after=zzz", 422, "invalid_cursor", "/query/after"),
    get("the cursor of another list", "/v1/samples?after=job_1", 422, "invalid_cursor", "/query/after"),
    get("an unknown query field", "/v1/models?limt=5", 422, "unknown_field", "/query/limt"),
    get("a query where none is", "/v1/models/{m}?limit=5", 422, "unknown_field", "/query/limit"),
    Bad("a purge in the query", "POST", "/v1/models/{m}/forget?purge=true", 422, "unknown_field",
        {"labels": ["1"]}, ("/query/purge",)),
    get("an operation of jobs that is none", "/v1/jobs?operation=train", 422, "unknown_value",
        "/query/operation"),
    get("a label of jobs that is none", "/v1/jobs?label=a/b", 422, "invalid_name", "/query/label"),
    get("an order of jobs that is none", "/v1/jobs?order=up", 422, "unknown_value", "/query/order"),
    get("a limit twice", "/v1/models?limit=5&limit=6", 422, "duplicate_item", "/query/limit"),
    get("a level twice", "/v1/models/{m}/versions/2/report?level=quick&level=full", 422, "duplicate_item",
        "/query/level"),
    Bad("a cancel of a purge", "POST", "/v1/jobs/job_nothing/cancel", 422, "unknown_field", {"purge": True},
        ("/purge",)),
    Bad("a cancel of a list", "POST", "/v1/jobs/job_nothing/cancel", 422, "validation_failed", [1], ("",)),
    Bad("a cancel with an empty object", "POST", "/v1/jobs/job_nothing/cancel", 404, "job_not_found", {}),
    Bad("a deletion of a part", "DELETE", "/v1/models/{m}", 422, "unknown_field", {"labels": ["1"]},
        ("/labels",)),
    get("an unknown state", "/v1/jobs?state=lost", 422, "unknown_value", "/query/state"),
]  # fmt: skip

DATASETS = [
    upload("no archive", 422, "invalid_archive", "", body=b"no archive"),
    upload("nothing", 422, "empty_file", "", body=b""),
    upload("a path out", 422, "invalid_path", "", body=zipped({"../0.png": b""})),
    upload("JSON", 415, "unsupported_media_type", body=b"{}", headers={"Content-Type": "application/json"}),
    upload(
        "a form", 415, "unsupported_media_type", body=b"", headers={"Content-Type": "multipart/form-data"}
    ),
    upload("over another's name", 409, "dataset_exists", path="mnist", body=as_npz(doodles())),
    upload("a NUL in the name", 422, "invalid_name", "/path/dataset", path="a%00", body=as_npz(doodles())),
    upload("dots for a name", 422, "invalid_name", "/path/dataset", path=".cats", body=as_npz(doodles())),
    upload(
        "another option", 422, "unknown_field", "/query/dryrun", path="cats?dryrun=1", body=as_npz(doodles())
    ),
    upload("an endless name", 422, "invalid_name", "/path/dataset", path="a" * 65, body=as_npz(doodles())),
]

IMAGES = [
    sample("count 0", 422, "out_of_range", "/count", body={"labels": ["1"], "count": 0}),
    sample("count -1", 422, "out_of_range", "/count", body={"labels": ["1"], "count": -1}),
    sample("count 10^6", 422, "out_of_range", "/count", body={"labels": ["1"], "count": 10**6}),
    sample("count as text", 422, "wrong_type", "/count", body={"labels": ["1"], "count": "4"}),
    sample("count 4.5", 422, "wrong_type", "/count", body={"labels": ["1"], "count": 4.5}),
    sample("too many images", 422, "output_too_large", "/count",
           body={"labels": ["1", "2"], "count": 1500, "format": "npz"}),
    sample("too wide a grid", 422, "output_too_large", "/count", body={"labels": ["1"], "count": 51}),
    sample("too wide a grid as webp", 422, "output_too_large", "/count",
           body={"labels": ["1"], "count": 51, "format": "webp"}),
    sample("two images in one png", 422, "output_too_large", "/count",
           body={"labels": ["1"], "count": 2, "format": "png"}),
    sample("no labels", 422, "required", "/labels", body={"count": 3}),
    sample("an empty list", 422, "required", "/labels", body={"labels": []}),
    sample("a duplicate", 422, "duplicate_item", "/labels/1", body={"labels": ["1", "1"]}),
    sample("format bmp", 422, "unsupported_format", "/format", body={"labels": ["1"], "format": "bmp"}),
    sample("format ../png", 422, "unsupported_format", "/format", body={"labels": ["1"], "format": "../png"}),
    sample("format null", 422, "unsupported_format", "/format", body={"labels": ["1"], "format": None}),
    sample("an unknown version", 404, "version_not_found", body={"labels": ["1"], "version": 9}),
    sample("version 0", 422, "out_of_range", "/version", body={"labels": ["1"], "version": 0}),
    sample("a revoked version", 410, "version_revoked", body={"labels": ["1"], "version": 1}),
    sample("a label never learned", 422, "label_not_learned", "/labels/0", body={"labels": ["9"]}),
    sample("a label of no dataset", 422, "label_not_learned", "/labels/0", body={"labels": ["sneaker"]}),
    sample("a forgotten label", 422, "label_forgotten", "/labels/1", body={"labels": ["1", "3"]}),
    Bad("a model without a version", "POST", "/v1/models/{empty}/samples", 409, "model_has_no_version",
        {"labels": ["1"]}),
    image("a revoked version", "1/images/1/0.png", 410, "version_revoked"),
    image("a forgotten label", "2/images/3/0.png", 422, "label_forgotten", "/path/label"),
    image("a label never learned", "2/images/9/0.png", 422, "label_not_learned", "/path/label"),
    image("a label with a NUL", "2/images/%00/0.png", 422, "invalid_name", "/path/label"),
    image("seed -1", "2/images/1/-1.png", 422, "out_of_range", "/path/seed"),
    image("seed 2^53", "2/images/1/9007199254740992.png", 422, "out_of_range", "/path/seed"),
    image("seed x", "2/images/1/x.png", 422, "out_of_range", "/path/seed"),
    image("a jpeg", "2/images/1/0.jpg", 404, "route_not_found"),
    image("an unknown version", "9/images/1/0.png", 404, "version_not_found"),
    image("scale 0", "2/images/1/0.png?scale=0", 422, "out_of_range", "/query/scale"),
    image("scale 17", "2/images/1/0.png?scale=17", 422, "out_of_range", "/query/scale"),
    image("scale 1.5", "2/images/1/0.png?scale=1.5", 422, "wrong_type", "/query/scale"),
    image("grid 8", "2/images/1/0.png?grid=8", 422, "out_of_range", "/query/grid"),
    image("grid 0x8", "2/images/1/0.png?grid=0x8", 422, "out_of_range", "/query/grid"),
    image("grid 17x1", "2/images/1/0.png?grid=17x1", 422, "out_of_range", "/query/grid"),
    image("too large a picture", "2/images/1/0.png?grid=16x16&scale=16", 422, "output_too_large",
          "/query/scale"),
    image("weights of a revoked version", "1/files/checkpoint.safetensors", 410, "version_revoked"),
    image("the decoder of a revoked version", "1/files/decoder.onnx", 410, "version_revoked"),
]  # fmt: skip

TABLE = NOT_JSON + NOT_THERE + HEADERS + CHANGES + EVALUATIONS + MODELS + DATASETS + IMAGES
