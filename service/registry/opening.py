"""Open the artifact store that the settings name."""

from pathlib import Path

from service.registry.artifacts import Artifacts, FolderArtifacts
from service.settings import Settings


def open_artifacts(deployment: Settings) -> Artifacts:
    """Return the artifacts of the deployment."""
    return FolderArtifacts(deployment.artifacts)


def find_scratch(deployment: Settings) -> Path:
    """Return the folder for temporary files that become artifacts. It need not exist yet."""
    return deployment.artifacts
