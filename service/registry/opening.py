"""Open the artifact store that the settings name: a folder in the home folder, or a bucket of S3 storage."""

from functools import lru_cache
from pathlib import Path

from service.registry.artifacts import Artifacts, FolderArtifacts
from service.registry.store import Store
from service.settings import Settings
from service.urls import bucket_and_prefix


def open_artifacts(deployment: Settings) -> Artifacts:
    """Return the artifacts of the deployment."""
    if not deployment.artifacts_url:
        return FolderArtifacts(deployment.artifacts)
    return Artifacts(_open_bucket(deployment.artifacts_url))


def find_scratch(deployment: Settings) -> Path:
    """Return the folder for temporary files that become artifacts. It need not exist yet."""
    return deployment.home if deployment.artifacts_url else deployment.artifacts


@lru_cache(maxsize=8)
def _open_bucket(url: str) -> Store:
    """Return the bucket of the URL. Each process opens it once, and uses its connections again."""
    # Imported here: `palimpsest verify` and deployments with a folder need no S3 client.
    from service.registry.s3_store import S3Store

    return S3Store(*bucket_and_prefix(url))
