"""The tables. All namespaces share them, so they are created and rights are granted once.

A topic is a row. The UPDATE that takes a message's number locks it until the transaction ends. So the numbers
of a topic are in the order of commits and have no hole: a reader that has seen a number has seen all before
it, and a transaction that commits late is not skipped. The cost is that publishers of one topic wait for each
other. (If readers waited for the oldest running transaction instead, any long transaction of the database,
not only one that publishes, would delay every reader.)
"""

import hashlib

from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Unicode,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import LONGBLOB

VERSION = 3
"""The schema version, which `bridge_schema` contains."""

METADATA = MetaData()

_ID = BigInteger().with_variant(Integer, "sqlite")
_BYTES = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")

SCHEMA = Table("bridge_schema", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))

TOPICS = Table(
    "bridge_topic",
    METADATA,
    Column("id", _ID, Identity(), primary_key=True),
    Column("key", String(32), nullable=False, unique=True),
    Column("namespace", Unicode(255), nullable=False),
    Column("name", Unicode(255), nullable=False),
    # The position of the last message. Before the first message the epoch is empty.
    Column("epoch", String(32), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("mark", BigInteger, nullable=False),
    # Messages below `oldest` have expired. Those from `swept` on are not deleted yet.
    Column("oldest", BigInteger, nullable=False),
    Column("swept", BigInteger, nullable=False),
    # The time of the last upkeep. It is not set with every message, because that would write the index.
    Column("upkeep", BigInteger, nullable=False),
    # The state: its rank, and the number of all entries, also of deleted ones.
    Column("rank", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Index("bridge_topic_upkeep", "namespace", "upkeep", mysql_length={"namespace": 64}),
)

MESSAGES = Table(
    "bridge_message",
    METADATA,
    Column("id", _ID, Identity(), primary_key=True),
    Column("topic", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("mark", BigInteger, nullable=False),
    Column("token", String(32), nullable=False),
    Column("payload", _BYTES, nullable=False),
    Column("kind", Unicode(100)),
    # Of the message of a canvas: the text form of `bridge.model.counts.Counts`.
    Column("counts", String(150)),
    UniqueConstraint("topic", "number"),
    sqlite_autoincrement=True,
)

FIELDS = Table(
    "bridge_field",
    METADATA,
    Column("topic", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(255), primary_key=True),
    Column("value", _BYTES, nullable=False),
)

ENTRIES = Table(
    "bridge_entry",
    METADATA,
    Column("topic", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("payload", _BYTES, nullable=False),
)

# Of the topic of a canvas: its counts, how far each of its parts is until the last one has ended, and the
# rows to show of a few of them, by importance and age.
COUNTS = Table(
    "bridge_tally",
    METADATA,
    Column("topic", BigInteger, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("done", BigInteger, nullable=False),
    # The number of parts at each stage, without those that wait.
    Column("stage1", BigInteger, nullable=False),
    Column("stage2", BigInteger, nullable=False),
    Column("stage3", BigInteger, nullable=False),
    Column("stage4", BigInteger, nullable=False),
    # The number of rows in `bridge_line`.
    Column("shown", Integer, nullable=False),
)

PARTS = Table(
    "bridge_part",
    METADATA,
    Column("topic", BigInteger, primary_key=True, autoincrement=False),
    Column("key", String(32), primary_key=True),
    Column("stage", Integer, nullable=False),
    Column("value", Integer, nullable=False),
)

ROWS = Table(
    "bridge_line",
    METADATA,
    Column("topic", BigInteger, primary_key=True, autoincrement=False),
    Column("key", String(32), primary_key=True),
    Column("importance", Integer, nullable=False),
    Column("age", BigInteger, nullable=False),
    Column("line", _BYTES, nullable=False),
)

MEMBERS = Table(
    "bridge_member",
    METADATA,
    Column("id", _ID, Identity(), primary_key=True),
    Column("of_group", BigInteger, nullable=False),
    Column("topic", BigInteger, nullable=False),
    UniqueConstraint("topic", "of_group"),
    Index("bridge_member_of_group", "of_group", "id"),
)

# Messages for groups, from transactions of callers. They are not numbered yet. See `pending.py`.
PENDING = Table(
    "bridge_pending",
    METADATA,
    Column("id", _ID, Identity(), primary_key=True),
    Column("of_group", String(32), nullable=False, index=True),
    Column("namespace", Unicode(255), nullable=False),
    Column("name", Unicode(255), nullable=False),
    Column("topic", BigInteger, nullable=False),
    Column("listed", Integer, nullable=False),
    Column("token", String(32), nullable=False),
    Column("payload", _BYTES, nullable=False),
    Column("kind", Unicode(100)),
    Column("counts", String(150)),
)

DURABLE = Table(
    "bridge_durable",
    METADATA,
    Column("topic", BigInteger, primary_key=True, autoincrement=False),
    Column("key", String(32), primary_key=True),
    Column("name", Unicode(255), nullable=False),
    Column("epoch", String(32), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("mark", BigInteger, nullable=False),
)


def key_of(*names: str) -> str:
    """Return a key for an index that is independent of the length and the collation of the names."""
    return hashlib.blake2b("\0".join(names).encode(), digest_size=16).hexdigest()
