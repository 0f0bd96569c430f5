"""Open the artifact store that the settings name: a folder in the home folder, or a bucket of S3 storage."""

from functools import lru_cache

from service.hanging import BoundedCalls
from service.registry.artifact_cache import ArtifactCache
from service.registry.artifacts import Artifacts, FolderArtifacts, PromptArtifacts
from service.registry.classifier_files import ClassifierFolder, ClassifierObjects, DeletableClassifiers
from service.registry.store import Store
from service.settings import Settings
from service.urls import bucket_and_prefix


def open_artifacts(deployment: Settings) -> Artifacts:
    """Return the artifacts of the deployment."""
    if not deployment.artifacts_url:
        return FolderArtifacts(deployment.artifacts)
    return Artifacts(_open_bucket(deployment.artifacts_url))


def open_prompt_artifacts(deployment: Settings, calls: BoundedCalls) -> PromptArtifacts:
    """Return the same for a process that has to answer. calls: those to the store."""
    cache = None
    if deployment.artifacts_url and deployment.artifacts_cache_bytes:
        cache = ArtifactCache(deployment.home, max_bytes=deployment.artifacts_cache_bytes)
    return PromptArtifacts(open_artifacts(deployment).store, calls, cache)


def open_classifiers(deployment: Settings) -> DeletableClassifiers:
    """Return the files of the judges and feature networks that were trained here."""
    if deployment.artifacts_url:
        return ClassifierObjects(_open_bucket(deployment.artifacts_url))
    return ClassifierFolder(deployment.judges)


@lru_cache(maxsize=8)
def _open_bucket(url: str) -> Store:
    """Return the bucket of the URL. Each process opens it once, and uses its connections again."""
    # Imported here: `palimpsest verify` and deployments with a folder need no S3 client.
    from service.registry.s3_store import S3Store

    return S3Store(*bucket_and_prefix(url))
