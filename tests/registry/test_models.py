"""Models have unique names, and are found by name or id."""

from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from service.registry import datasets, idempotency, keys, models
from service.registry.database import Database
from service.registry.errors import ModelExists, UnknownModel, UnknownProject
from service.registry.idempotency import RequestWithKey


def test_a_model_is_found_by_name_and_by_id(database: Database) -> None:
    with database.transaction() as session:
        made = models.create(session, name="pages", dataset="digits", network={"latent": 8}, seed=7)
    with database.reading() as session:
        assert models.find(session, "pages").id == models.find(session, made.id).id == made.id
        assert models.find(session, "pages").network == {"latent": 8}
        with pytest.raises(UnknownModel, match="GET /v1/models"):
            models.find(session, "other")


def test_two_models_cannot_have_the_same_name(database: Database) -> None:
    with database.transaction() as session:
        models.create(session, name="pages", dataset="digits", network={}, seed=1)
    with pytest.raises(ModelExists), database.transaction() as session:
        models.create(session, name="pages", dataset="mnist", network={}, seed=2)
    with database.reading() as session:
        assert models.find(session, "pages").dataset == "digits"


def test_nothing_is_added_to_a_project_that_was_just_deleted(database: Database) -> None:
    gone = "prj_gone"
    request = RequestWithKey(gone, "once", "0" * 64)
    additions: list[Callable[[Session], object]] = [
        lambda session: models.create(
            session, name="pages", dataset="digits", network={}, seed=1, project=gone
        ),
        lambda session: datasets.put(session, "doodles", images={"a": 1}, sha256="0" * 64, project=gone),
        lambda session: keys.create(session, name="mine", scopes=["read"], project=gone),
        lambda session: idempotency.record(session, request, 201, "mdl_1"),
    ]
    for add in additions:
        with pytest.raises(UnknownProject), database.transaction() as session:
            add(session)


def test_pages_list_every_model_once(database: Database) -> None:
    with database.transaction() as session:
        made = [
            models.create(session, name=f"m{i}", dataset="digits", network={}, seed=1).id for i in range(5)
        ]
    seen: list[str] = []
    has_more, after = True, None
    with database.reading() as session:
        while has_more:
            rows, has_more = models.page(session, limit=2, after=after)
            seen += [row.id for row in rows]
            after = seen[-1]
    assert seen == sorted(made, reverse=True)


def test_created_at_is_the_time_of_the_database_in_utc(database: Database) -> None:
    with database.transaction() as session:
        made = models.create(session, name="pages", dataset="digits", network={}, seed=1)
    assert made.created_at.utcoffset() is not None
    assert made.created_at.utcoffset().total_seconds() == 0  # type: ignore[union-attr]
