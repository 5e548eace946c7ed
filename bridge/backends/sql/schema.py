"""Creates and upgrades the tables, and checks their version."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import Connection, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from bridge.backends.sql.tables import METADATA, SCHEMA, VERSION
from bridge.errors import ConfigurationError

STEPS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE bridge_message ADD COLUMN kind VARCHAR(100)",
        "ALTER TABLE bridge_message ADD COLUMN counts VARCHAR(150)",
        "ALTER TABLE bridge_tally ADD COLUMN size BIGINT DEFAULT 0 NOT NULL",
        # The sizes of canvases that have ended, and of those whose parts do not know them. Other parts have
        # the size in their next message.
        """UPDATE bridge_tally SET size = stage2 + stage3 + stage4 WHERE NOT EXISTS
           (SELECT 1 FROM bridge_part WHERE bridge_part.topic = bridge_tally.topic)""",
        """UPDATE bridge_tally SET size = COALESCE((SELECT MAX(value) FROM bridge_part
           WHERE bridge_part.topic = bridge_tally.topic AND bridge_part.stage = 0), size)""",
    ),
    2: (),  # `bridge_pending` is created with the tables that are missing.
}
"""The statements that upgrade each older version to the next."""

_ADVISORY_LOCK = 7_265_100_541_909_324

Within = Callable[[], AbstractContextManager[Connection]]


def check(reading: Within, writing: Within, address: str) -> None:
    """Create the tables if there are none. Raise `ConfigurationError` if they have another version."""
    with reading() as connection:
        version = _version(connection)
    if version is None:
        try:
            migrate(writing, address)
        except DBAPIError as error:
            if not _is_refusal(error):
                raise
            raise ConfigurationError(
                f"{address} has no tables of the bridge, and this user may not create them: "
                f"run `bridge migrate URL` as a user who may ({str(error.orig).strip()})"
            ) from error
    elif version < VERSION:
        raise ConfigurationError(
            f"the tables in {address} are of schema version {version}, and this package needs {VERSION}: "
            "stop all processes that use them, then run `bridge migrate URL`"
        )
    else:
        _refuse_newer(version, address)


def migrate(writing: Within, address: str) -> int:
    """Create the tables or upgrade older ones, in one transaction if the database supports it.

    Returns the version of the tables.
    """
    with writing() as connection:
        if connection.dialect.name == "postgresql":
            # The lock lets processes that start together create them one after another.
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        version = _version(connection)
        if version is not None:
            _refuse_newer(version, address)
            for step in range(version, VERSION):
                if step not in STEPS:
                    raise ConfigurationError(f"schema version {step} in {address} cannot be upgraded")
                for statement in STEPS[step]:
                    connection.execute(text(statement))
        METADATA.create_all(connection)
        if version is None:
            connection.execute(insert(SCHEMA), {"version": VERSION})
        elif version != VERSION:
            connection.execute(update(SCHEMA), {"version": VERSION})
    return VERSION


def _refuse_newer(version: int, address: str) -> None:
    if version > VERSION:
        raise ConfigurationError(
            f"the tables in {address} are of schema version {version}, and this package knows {VERSION}: "
            "upgrade celery-event-bridge"
        )


def _version(connection: Connection) -> int | None:
    """Return the version of the tables, `None` if there are none."""
    if not inspect(connection).has_table(SCHEMA.name):
        return None
    return connection.scalar(select(SCHEMA.c.version))


def _is_refusal(error: DBAPIError) -> bool:
    """Return whether the database refused a statement because of missing permissions."""
    text = str(error.orig)
    return getattr(error.orig, "sqlstate", None) == "42501" or "readonly" in text or "denied" in text
