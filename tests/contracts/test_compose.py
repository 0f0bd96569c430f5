"""docker-compose.yml is valid, and what it names exists: targets, commands, settings, services, volumes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from service.api.app import create_app
from service.process.stopping import STOP_SECONDS
from service.settings import Settings
from tests.contracts.dockerfile import ROOT, read_stages
from tests.contracts.test_images import takes
from worker.process.celery_app import STOP_SECONDS as WORKER_SECONDS

FILE, BUCKET_FILE = ROOT / "docker-compose.yml", ROOT / "docker-compose.s3.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
WITH_BUCKET: dict[str, Any] = yaml.safe_load(BUCKET_FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "api", "worker", "worker-gpu")
STAGES = read_stages()


def without_variables(value: str) -> str:
    """The value on a machine where none of its variables is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def test_both_files_are_valid_by_the_compose_specification() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    check_result = subprocess.run(
        [check, "--builtin-schema", "vendor.compose-spec", FILE, BUCKET_FILE], capture_output=True, text=True
    )
    assert check_result.returncode == 0, check_result.stdout + check_result.stderr


def test_it_has_the_four_services_and_a_gpu_worker_only_on_request() -> None:
    assert {"postgres", "redis", "api", "worker"} <= set(SERVICES)
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert all("profiles" not in SERVICES[name] for name in ("postgres", "redis", "migrate", "api", "worker"))


@pytest.mark.parametrize("name", OURS)
def test_our_services_build_a_target_and_run_a_command_that_exist(name: str) -> None:
    assert SERVICES[name]["build"]["target"] in STAGES
    takes(SERVICES[name]["command"])


@pytest.mark.parametrize("name", OURS)
def test_the_variables_of_our_services_are_settings_with_values_they_accept(name: str) -> None:
    environment = {key: without_variables(value) for key, value in SERVICES[name]["environment"].items()}
    fields = {key.removeprefix("PALIMPSEST_").lower(): value for key, value in environment.items()}
    assert set(fields) <= set(Settings.model_fields)
    settings = Settings.model_validate(fields)
    assert settings.database_url.startswith("postgresql+psycopg://")
    assert urlsplit(settings.database_url).hostname in SERVICES
    assert urlsplit(settings.broker_url).hostname in SERVICES


@pytest.mark.parametrize("name", OURS)
def test_our_services_write_to_their_volumes_alone_and_have_no_rights_and_bounded_memory(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["tmpfs"], service["init"]) == (True, ["/tmp"], True)
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    assert "user" not in service  # that of the image, which has none of root's rights
    assert re.fullmatch(r"[0-9]+[mg]", service["mem_limit"])


@pytest.mark.parametrize("name", ["api", "worker", "worker-gpu"])
def test_our_services_get_longer_to_stop_than_they_may_take(name: str) -> None:
    assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > max(STOP_SECONDS, WORKER_SECONDS)


def test_with_a_bucket_each_of_our_services_gets_its_address_and_credentials() -> None:
    services = WITH_BUCKET["services"]
    assert set(services) == {"s3", *OURS}
    for name in OURS:
        assert "depends_on" in services[name]
        environment = {key: without_variables(value) for key, value in services[name]["environment"].items()}
        artifacts_url = environment.pop("PALIMPSEST_ARTIFACTS_URL")
        assert Settings(artifacts_url=artifacts_url).artifacts_url == artifacts_url
        assert urlsplit(environment["AWS_ENDPOINT_URL"]).hostname == "s3"
        own = {key: without_variables(value) for key, value in services["s3"]["environment"].items()}
        assert urlsplit(artifacts_url).hostname == own.pop("S3_BUCKET")
        assert own.items() <= environment.items()


@pytest.mark.parametrize("name", OURS)
def test_our_services_share_one_home(name: str) -> None:
    assert SERVICES[name]["volumes"] == [f"home:{SERVICES[name]['environment']['PALIMPSEST_HOME']}"]
    assert SERVICES[name]["environment"]["PALIMPSEST_HOME"] == STAGES["base"].environment["PALIMPSEST_HOME"]


def test_the_database_of_the_api_is_the_one_that_postgres_creates() -> None:
    url = urlsplit(without_variables(SERVICES["api"]["environment"]["PALIMPSEST_DATABASE_URL"]))
    postgres = {k: without_variables(v) for k, v in SERVICES["postgres"]["environment"].items()}
    assert (url.username, url.password, url.path) == (
        postgres["POSTGRES_USER"],
        postgres["POSTGRES_PASSWORD"],
        "/" + postgres["POSTGRES_DB"],
    )


def test_the_api_is_published_on_loopback_at_the_port_it_listens_on() -> None:
    command = SERVICES["api"]["command"]
    port = command[command.index("--port") + 1]
    assert [without_variables(entry) for entry in SERVICES["api"]["ports"]] == [f"127.0.0.1:8000:{port}"]
    assert [port] == STAGES["service"].all("EXPOSE")


def test_the_healthcheck_calls_a_path_and_port_of_the_api(tmp_path: Path) -> None:
    command = SERVICES["api"]["command"]
    probe = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", " ".join(SERVICES["api"]["healthcheck"]["test"]))
    assert probe is not None
    assert probe.group(1) == command[command.index("--port") + 1]
    assert probe.group(2) in create_app(Settings(home=tmp_path)).openapi()["paths"]


def test_every_dependency_is_a_service_and_has_the_healthcheck_that_is_waited_for() -> None:
    for name, service in SERVICES.items():
        for other, waiting in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} waits for {other}, which is not there"
            if waiting["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{other} has no healthcheck for {name} to wait for"


def test_every_named_volume_is_declared_and_used() -> None:
    mounted = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", ())}
    assert mounted == set(COMPOSE["volumes"])


def test_no_secret_is_committed() -> None:
    text = FILE.read_text() + BUCKET_FILE.read_text()
    passwords = re.findall(
        r"(?:PASSWORD: |SECRET_ACCESS_KEY: |palimpsest:)(\S+?)(?:@|$)", text, flags=re.MULTILINE
    )
    assert passwords
    assert {password for password in passwords if "$" not in password} == set()
