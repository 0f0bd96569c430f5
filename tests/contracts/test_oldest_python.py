"""Every pinned dependency can be installed on the oldest Python that the README names."""

from importlib.metadata import distributions

from packaging.specifiers import SpecifierSet

OLDEST = "3.11.0"


def test_no_dependency_needs_a_newer_python() -> None:
    needs = {one.name: str(one.metadata.json.get("requires_python", "")) for one in distributions()}
    assert [f"{name} needs {rule}" for name, rule in needs.items() if OLDEST not in SpecifierSet(rule)] == []
