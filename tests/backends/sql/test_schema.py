"""The tables: making them, their versions, and `bridge migrate`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import bridge
from bridge import cli
from bridge.backends.sql import schema, tables
from bridge.backends.sql.tables import VERSION
from bridge.channel.transport import transport_of
from bridge.model.counts import DONE, Counts
from bridge.tasks import canvas
from tests import events
from tests.backends.sql.tools import engine_of, sql
from tests.servers import free_port


@sql
@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_tables_of_another_version_are_refused(url: str, request: Any, version: int) -> None:
    """At each use older tables ask for `bridge migrate`, and newer ones for a newer package."""
    if "postgresql" in url:
        url = request.getfixturevalue("own_postgres").url(scheme=url.partition("://")[0])
    engine = engine_of(url)
    with bridge.connect(url) as channel:
        channel.topic("orders").publish(b"one")
    with engine.begin() as connection:
        connection.execute(tables.SCHEMA.update().values(version=version))
    says = f"schema version {version}.*(bridge migrate|upgrade celery-event-bridge)"
    with bridge.connect(url) as channel:
        topic = channel.topic("orders")
        uses: list[Callable[[], object]] = [
            lambda: topic.publish(b"one"),
            topic.subscribe,
            topic.history,
            transport_of(channel).backend.ping,
            lambda: topic.subscribe(durable="indexer"),
        ]
        for use in uses:
            with pytest.raises(bridge.ConfigurationError, match=says):
                use()
    engine.dispose()


@sql
def test_migrate_makes_and_updates_tables(
    url: str, request: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bridge migrate URL` makes the tables, changes nothing a second time, and leads from older to newer."""
    if "postgresql" in url:
        url = request.getfixturevalue("own_postgres").url(scheme=url.partition("://")[0])
    for _ in range(2):
        assert cli.main(["migrate", url]) == 0
        assert f"schema version {VERSION}" in capsys.readouterr().out
    with bridge.connect(url) as channel:
        channel.topic("orders").publish(b"one")
        monkeypatch.setattr(schema, "VERSION", VERSION + 1)
        assert cli.main(["migrate", url]) == 1
        assert f"schema version {VERSION} in" in capsys.readouterr().err
        step = ("ALTER TABLE bridge_topic ADD COLUMN note VARCHAR(10)",)
        monkeypatch.setattr(schema, "STEPS", {VERSION: step})
        assert cli.main(["migrate", url]) == 0
        assert f"schema version {VERSION + 1}" in capsys.readouterr().out
        assert channel.topic("orders").history() == [b"one"]


# What version 2 added.
TO_VERSION_1 = (
    "ALTER TABLE bridge_message DROP COLUMN kind",
    "ALTER TABLE bridge_message DROP COLUMN counts",
    "ALTER TABLE bridge_tally DROP COLUMN size",
)


@sql
def test_tables_of_version_1_are_updated(url: str, request: Any) -> None:
    """Messages and canvases of version 1 are there after `bridge migrate`, and counting goes on."""
    if "postgresql" in url:
        url = request.getfixturevalue("own_postgres").url(scheme=url.partition("://")[0])
    canvases: dict[str, int | None] = {"ended": 2, "running": 2, "settled": None}
    channel: Any = bridge.connect(url)
    channel.topic("orders").publish(b"one")
    for canvas_id, size in canvases.items():
        transport_of(channel).publish(canvas.make(canvas_id, size, "a", "SUCCESS"))
    transport_of(channel).publish(canvas.make("ended", 2, "b", "FAILURE"))
    transport_of(channel).publish(canvas.settle("settled", 2))
    channel.close()
    engine = engine_of(url)
    with engine.begin() as connection:
        for statement in TO_VERSION_1:
            connection.execute(text(statement))
        connection.execute(tables.SCHEMA.update().values(version=1))
    engine.dispose()
    assert cli.main(["migrate", url]) == 0
    channel = bridge.connect(url)
    (message,) = channel.topic("orders").history()
    assert (message, message.type) == (b"one", None)
    counts = {"ended": Counts(2, DONE, 0, 1, failed=1), "settled": Counts(2, DONE, 0, 1)}
    for canvas_id, expected in counts.items():
        (found,) = transport_of(channel).states(bridge.task_topic(canvas_id))
        assert found.counts == expected
    for canvas_id in ("running", "settled"):
        transport_of(channel).publish(canvas.make(canvas_id, canvases[canvas_id], "b", "SUCCESS"))
        (found,) = transport_of(channel).states(bridge.task_topic(canvas_id))
        assert events.snapshot(found, canvas_id)["state"] == "SUCCESS"
    channel.close()


def test_migrate_says_what_is_wrong(tmp_path: Path) -> None:
    """One line says it, and the command exits with 1 for what is no database, with 6 for one out of reach."""
    for url, says, status in (
        ("memory://", "only a database has tables", 1),
        ("kafka://x", "no backend", 1),
        (f"postgresql://u:secret@127.0.0.1:{free_port()}/x", "could not be migrated", 6),
        (f"sqlite:///{tmp_path}/no/such/folder.db", "unable to open", 6),
    ):
        command = [str(Path(sys.executable).with_name("bridge")), "migrate", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == status
        assert done.stderr.startswith("bridge: ")
        assert says in done.stderr
        assert "secret" not in done.stderr
        assert "Traceback" not in done.stderr
