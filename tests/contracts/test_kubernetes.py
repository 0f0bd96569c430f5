"""The manifests for Kubernetes are valid, run what exists without rights, and agree with the code."""

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.api import health
from service.api.metrics import QUEUE_GAUGES
from service.process.stopping import STOP_SECONDS
from service.settings import Settings
from tests.contracts.dockerfile import ROOT, read_stages
from tests.contracts.test_images import takes
from worker.process.celery_app import STOP_SECONDS as WORKER_SECONDS

FOLDER = ROOT / "deploy" / "kubernetes"
KEDA = FOLDER / "keda" / "scaled-objects.yaml"
OVERLAYS = ("base", "gpu")
STAGES = read_stages()
MEBIBYTES = {"Mi": 1, "Gi": 1024}


@lru_cache
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """Return the objects that `kubectl apply --kustomize` would create."""
    kubectl = Path(sys.executable).with_name("kubectl")
    made = subprocess.run([kubectl, "kustomize", FOLDER / overlay], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return tuple(yaml.safe_load_all(made.stdout))


def named(kind: str, name: str, overlay: str = "gpu") -> dict[str, Any]:
    [found] = [one for one in rendered(overlay) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for one in rendered("gpu"):
        if one["kind"] == "Deployment":
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


PODS = dict(pods())
CONTAINERS = {
    f"{name} {container['name']}": container
    for name, pod in PODS.items()
    for container in (*pod.get("initContainers", ()), *pod["containers"])
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_valid_by_the_schemas_of_kubernetes(overlay: str) -> None:
    assert rendered(overlay)
    for one in rendered(overlay):
        kubernetes_validate.validate(one, "1.37", strict=True)


def test_the_base_has_no_gpu_and_the_overlay_all_of_the_base() -> None:
    base, gpu = ({(one["kind"], one["metadata"]["name"]) for one in rendered(name)} for name in OVERLAYS)
    assert gpu - base == {
        ("Deployment", "palimpsest-worker-gpu"),
        ("PodDisruptionBudget", "palimpsest-worker-gpu"),
    }
    assert base <= gpu


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_container_runs_a_command_that_exists_in_an_image_that_has_it(name: str) -> None:
    container = CONTAINERS[name]
    takes(container["command"])
    image = re.search(r"palimpsest-(\w+):", container["image"])
    assert image is not None
    assert image[1] in STAGES
    assert ("worker" in container["command"]) == (image[1] == "worker")


@pytest.mark.parametrize("name", PODS)
def test_each_pod_runs_as_the_user_of_the_image_and_without_rights(name: str) -> None:
    pod = PODS[name]
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert str(security["runAsUser"]) == STAGES["worker"].all("USER")[-1]
    assert security["fsGroup"] == security["runAsGroup"] == security["runAsUser"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_container_writes_to_its_volumes_alone_and_has_bounds(name: str) -> None:
    container = CONTAINERS[name]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    mounted = {one["mountPath"] for one in container["volumeMounts"]}
    assert {"/tmp", "/var/lib/palimpsest"} <= mounted
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_variables_of_each_container_are_settings_with_values_they_accept(name: str) -> None:
    values = environment_of(CONTAINERS[name])
    fields = {key.removeprefix("PALIMPSEST_").lower(): value for key, value in values.items()}
    assert set(fields) <= set(Settings.model_fields)
    settings = Settings.model_validate(fields)
    assert settings.artifacts_url.startswith("s3://")
    assert settings.signer is (name == "palimpsest-signer signer")


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables PALIMPSEST_* that the manifests give it; those of the secret are made by hand."""
    [settings] = [one["configMapRef"]["name"] for one in container["envFrom"] if "configMapRef" in one]
    own = {one["name"]: one["value"] for one in container.get("env", ())}
    everything: dict[str, str] = named("ConfigMap", settings)["data"] | own
    assert {key for key in everything if not key.startswith("PALIMPSEST_")} <= {"AWS_REGION"}
    return {key: value for key, value in everything.items() if key.startswith("PALIMPSEST_")}


def test_the_signer_alone_has_the_key_and_the_erasure_log() -> None:
    with_key = {
        name
        for name, pod in PODS.items()
        if any("secret" in one or "persistentVolumeClaim" in one for one in pod["volumes"])
    }
    assert with_key == {"palimpsest-signer"}
    signer = named("Deployment", "palimpsest-signer")
    assert (signer["spec"]["replicas"], signer["spec"]["strategy"]) == (1, {"type": "Recreate"})
    values = environment_of(CONTAINERS["palimpsest-signer signer"])
    mounts = {one["mountPath"]: one["name"] for one in CONTAINERS["palimpsest-signer signer"]["volumeMounts"]}
    assert mounts[values["PALIMPSEST_KEYS"]] == "signing-key"
    assert mounts[str(Path(values["PALIMPSEST_ERASURE_LOG"]).parent)] == "erasures"


@pytest.mark.parametrize("name", PODS)
def test_each_pod_gets_longer_to_end_than_its_process_may_take(name: str) -> None:
    assert PODS[name]["terminationGracePeriodSeconds"] >= 2 * max(STOP_SECONDS, WORKER_SECONDS)


def test_the_api_is_probed_at_paths_and_the_port_that_it_has() -> None:
    api = CONTAINERS["palimpsest-api api"]
    paths = {getattr(route, "path", None) for route in health.router.routes}
    [port] = api["ports"]
    assert str(port["containerPort"]) == api["command"][api["command"].index("--port") + 1]
    probes = {kind: api[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert all(probe["path"] in paths and probe["port"] == port["name"] for probe in probes.values())
    [service] = named("Service", "palimpsest-api")["spec"]["ports"]
    assert service["targetPort"] == port["name"]


def test_the_api_answers_to_the_names_of_its_service() -> None:
    settings = Settings.model_validate(
        {"allowed_hosts": environment_of(CONTAINERS["palimpsest-api api"])["PALIMPSEST_ALLOWED_HOSTS"]}
    )
    service = named("Service", "palimpsest-api")["metadata"]
    name = f"{service['name']}.{service['namespace']}"
    assert {service["name"], name, f"{name}.svc"} <= settings.allowed_host_names


@pytest.mark.parametrize("name", ["palimpsest-api", "palimpsest-worker", "palimpsest-worker-gpu"])
def test_a_disruption_budget_counts_the_pods_of_its_deployment(name: str) -> None:
    budget, deployment = named("PodDisruptionBudget", name), named("Deployment", name)
    selected = budget["spec"]["selector"]["matchLabels"].items()
    assert selected <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for other, pod in (
        (one["metadata"]["name"], one["spec"]) for one in rendered("gpu") if one["kind"] == "Deployment"
    ):
        assert other == name or not selected <= pod["template"]["metadata"]["labels"].items()


def test_workers_have_the_memory_that_the_largest_job_was_measured_to_need() -> None:
    found = re.search(
        r"largest of all kinds of jobs takes ([0-9.]+) GB", (FOLDER / "base/worker.yaml").read_text()
    )
    measured = re.search(
        r"peak memory of a job,[^|]*\|[^|]*\| ([0-9.]+) GB", (ROOT / "docs/roadmap.md").read_text()
    )
    assert found is not None
    assert measured is not None
    assert found[1] == measured[1]
    amounts = CONTAINERS["palimpsest-worker worker"]["resources"]
    needed = float(found[1]) * 1e9 / 2**20
    assert 1.2 * needed <= mebibytes(amounts["requests"]["memory"]) < mebibytes(amounts["limits"]["memory"])


def mebibytes(amount: str) -> int:
    return int(amount[:-2]) * MEBIBYTES[amount[-2:]]


def test_workers_are_scaled_by_a_figure_of_the_queue_that_they_serve() -> None:
    scaled = list(yaml.safe_load_all(KEDA.read_text()))
    assert [one["spec"]["scaleTargetRef"]["name"] for one in scaled] == [
        "palimpsest-worker",
        "palimpsest-worker-gpu",
    ]
    for one in scaled:
        [trigger] = one["spec"]["triggers"]
        query = re.fullmatch(r'max\((\w+)\{queue="([a-z]+)"\}\)', trigger["metadata"]["query"])
        assert query is not None
        assert query[1] in QUEUE_GAUGES
        [container] = PODS[one["spec"]["scaleTargetRef"]["name"]]["containers"]
        assert container["command"][container["command"].index("--queues") + 1] == query[2]
        assert 0 <= one["spec"]["minReplicaCount"] < one["spec"]["maxReplicaCount"]


def test_the_how_to_names_every_secret_that_the_pods_need() -> None:
    text = (ROOT / "docs/how-to/kubernetes.md").read_text()
    secrets = {
        one["secretRef"]["name"]
        for container in CONTAINERS.values()
        for one in container["envFrom"]
        if "secretRef" in one
    }
    secrets |= {
        one["secret"]["secretName"] for pod in PODS.values() for one in pod["volumes"] if "secret" in one
    }
    assert secrets == {"palimpsest-connections", "palimpsest-signing-key"}
    for name in secrets:
        assert f"create secret generic {name}" in text
