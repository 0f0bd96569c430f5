"""Queries that are sent so often that the cost of a session matters.

A session and a transaction of SQLAlchemy cost the API 0.5 to 1 ms of CPU time. A frequent query is compiled
once, and sent with the driver: it costs about 0.1 ms. What it promises is the same: a transaction that only
reads, the same settings, the same bounds on waiting.
"""

import json
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import BindParameter


class is_one_of(ColumnElement[bool]):  # noqa: N801 - reads as the SQL condition it is
    """The column has one of the texts in the list that is given as the parameter `name`."""

    inherit_cache = False

    def __init__(self, column: Any, name: str) -> None:
        self.column = column
        self.values: BindParameter[Any] = bindparam(name, None)


@compiles(is_one_of, "sqlite")
def _is_one_of_sqlite(element: Any, compiler: Any, **kwargs: Any) -> str:
    column, values = (compiler.process(part, **kwargs) for part in (element.column, element.values))
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(is_one_of, "postgresql")
def _is_one_of_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    column, values = (compiler.process(part, **kwargs) for part in (element.column, element.values))
    return f"{column} = ANY({values})"


class FrequentQuery:
    """A SELECT. Its result has the values that the driver returns, without conversion by column types."""

    def __init__(self, select: Select[*tuple[Any, ...]]) -> None:
        self._select = select
        self._compiled: dict[str, Any] = {}

    def run(self, engine: Engine, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows. Raises the driver's errors, after which the connection is closed."""
        connection = engine.raw_connection()
        try:
            send = _send_to_sqlite if engine.dialect.name == "sqlite" else _send_to_postgresql
            return send(engine, connection.driver_connection, self._compile(engine), values)
        except BaseException:
            connection.invalidate()
            raise
        finally:
            connection.close()

    def _compile(self, engine: Engine) -> Any:
        dialect = engine.dialect
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = self._select.compile(
                dialect=dialect, compile_kwargs={"render_postcompile": True}
            )
        return self._compiled[dialect.name]


def _send_to_sqlite(
    _engine: Engine, connection: Any, compiled: Any, values: dict[str, Any]
) -> list[tuple[Any, ...]]:
    texts = {name: json.dumps(value) if isinstance(value, list) else value for name, value in values.items()}
    parameters = {**compiled.params, **texts}
    rows: list[tuple[Any, ...]] = connection.execute(
        str(compiled), [parameters[name] for name in compiled.positiontup]
    ).fetchall()
    return rows


def _send_to_postgresql(
    engine: Engine, connection: Any, compiled: Any, values: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """Send the whole transaction as one message, and wait once for all its answers."""
    import psycopg  # 50 ms, which a service on SQLite does not need

    from service.registry.postgresql import begin_statement

    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(
            f"{begin_statement(engine.url, 'READ ONLY')};{compiled};COMMIT", {**compiled.params, **values}
        )
        cursor.set_result(-2)
        return cursor.fetchall()
