"""Run by Alembic: apply the steps on the connection that upgrade() passes, and in its transaction."""

from alembic import context

from service import failpoints
from service.registry.tables import Row

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Row.metadata,
    transactional_ddl=True,
    render_as_batch=True,
    on_version_apply=lambda **_: failpoints.reach("migrate.midway"),
)
context.run_migrations()
