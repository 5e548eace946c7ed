"""PostgreSQL behind PgBouncer, in the two modes that the guide describes."""

import pytest

import bridge
from bridge.channel.transport import transport_of
from tests import events
from tests.pgbouncer import PROGRAM, PgBouncer
from tests.servers import Postgres


@pytest.mark.skipif(PROGRAM is None, reason="no pgbouncer here")
def test_the_modes_of_a_pooler(own_postgres: Postgres) -> None:
    """In session mode all works; in transaction mode publishing and polling do, past the pooler reading."""
    with PgBouncer(own_postgres) as pooler:
        polling = pooler.url("transaction", "sql+postgresql+psycopg")
        urls = (pooler.url("session"), polling, own_postgres.url())
        channels = [bridge.connect(url) for url in urls]
        feeds = [channel.topic(bridge.FEED).subscribe() for channel in channels]
        expected = []
        for number in range(20):
            publisher = channels[number % 2]
            batch = [events.make("log", f"t{task}", message=str(number)) for task in range(3)]
            transport_of(publisher).publish_many(batch)
            transport_of(publisher).publish(events.make("progress", "t0", current=number))
            expected += [publication.payload for publication in batch] + [b"progress"]
        for feed in feeds:
            for payload in expected:
                message = feed.receive(timeout=20)
                assert message is not None
                assert payload in (message, b"progress")
        assert channels[1].topic(bridge.FEED).history(limit=1) == [message]
        for channel in channels:
            channel.close()
