"""A batch on Redis runs whole and in order, or stops at the first message that fails."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import bridge
from bridge.backends.redis import backend
from bridge.channel.channel import Channel
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.support.tokens import new_token
from bridge.tasks import canvas as canvas_events
from bridge.tasks.publisher import BackgroundPublisher
from tests import events
from tests.publications import repeated
from tests.servers import Cluster, Valkey, eventually

PUBLISHERS = 4
NUMBERS = 4000

PUBLISHER = """
import sys
import time
from bridge.channel.factory import connect
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.tasks.publisher import BackgroundPublisher

url, name, numbers = sys.argv[1], sys.argv[2], int(sys.argv[3])
publisher = BackgroundPublisher(transport_of(connect(url, retention_messages=10**6)))
for number in range(numbers):
    while len(publisher._queue) > 2000:
        time.sleep(0.001)
    publisher.put(Publication("numbers", b"%s %d" % (name.encode(), number)))
deadline = time.monotonic() + 120
while not publisher.flush(1) and time.monotonic() < deadline:
    time.sleep(0.01)
"""


@pytest.fixture
def channel(own_valkey: Valkey) -> Iterator[Channel]:
    with bridge.connect(own_valkey.url("redis")) as channel:
        yield channel


def plain(topic: str, *numbers: int) -> list[Publication]:
    return [Publication(topic, b"%d" % number) for number in numbers]


def entry(task: str, number: int) -> Publication:
    return events.make("log", task, level="info", message=str(number))


def part(task: str) -> Publication:
    return canvas_events.make("canvas:w", 3, task, "SUCCESS")


def published(channel: Channel, topic: str) -> list[int]:
    return [int(message) for message in transport_of(channel).backend.history(topic, 10_000)]


def everything(server: Valkey) -> dict[bytes, bytes]:
    """What every key of the server holds."""
    return {key: server.command("DUMP", key) for key in server.command("KEYS", "*")}


def refused(channel: Channel, publications: list[Publication]) -> str:
    with pytest.raises(bridge.PublishError) as error:
        transport_of(channel).publish_many(publications)
    return str(error.value)


@pytest.mark.timeout(180)
def test_batches_stay_in_order_while_scripts_vanish(own_valkey: Valkey) -> None:
    """Four processes publish while the server forgets its scripts every 20 ms: each one's order is kept."""
    command = [sys.executable, "-c", PUBLISHER, own_valkey.url("redis")]
    processes = [subprocess.Popen([*command, str(name), str(NUMBERS)]) for name in range(PUBLISHERS)]
    try:
        while any(process.poll() is None for process in processes):
            own_valkey.command("SCRIPT", "FLUSH")
            time.sleep(0.02)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    with bridge.connect(own_valkey.url("redis")) as channel:
        found = [
            message.decode().split()
            for message in transport_of(channel).backend.history("numbers", PUBLISHERS * NUMBERS)
        ]
    for name in range(PUBLISHERS):
        assert [int(number) for who, number in found if who == str(name)] == list(range(NUMBERS))


def test_a_batch_ends_at_the_first_message_that_fails(own_valkey: Valkey, channel: Channel) -> None:
    """Messages before it are published; it and those after it are not. The next call raises its error."""
    own_valkey.command("SET", "bridge:{t:broken}:log", "a string")
    publications = [*plain("numbers", 0, 1), *plain("broken", 2), *plain("numbers", 3)]
    assert transport_of(channel).publish_many(publications) == 2
    assert published(channel, "numbers") == [0, 1]
    assert "WRONGTYPE" in refused(channel, publications[2:])
    own_valkey.command("DEL", "bridge:{t:broken}:log")
    assert transport_of(channel).publish_many(repeated(publications[2:])) == 2
    assert published(channel, "numbers") == [0, 1, 3]


def test_what_comes_before_a_failure_reaches_readers_and_the_state(
    own_valkey: Valkey, channel: Channel
) -> None:
    """Of a batch that ends early, the messages before its end are delivered, and their changes are stored."""
    own_valkey.command("SET", "bridge:{t:broken}:meta", "a string")
    topic = bridge.task_topic("task")
    publications = [entry("task", 0), entry("task", 1), *plain("broken", 2), entry("task", 3)]
    with channel.topic(topic).subscribe() as own, channel.topic(bridge.FEED).subscribe() as feed:
        assert transport_of(channel).publish_many(publications) == 2
        for subscription in (own, feed):
            for publication in publications[:2]:
                assert subscription.receive(timeout=10) == publication.payload
    (found,) = transport_of(channel).states(topic)
    assert found.entries == [publication.payload for publication in publications[:2]]


def life_of(task: str) -> list[Publication]:
    """Events of a task from its start to its end, and some that come too late."""
    return [
        events.make("state", task, state="STARTED"),
        events.make("progress", task, current=1),
        entry(task, 0),
        events.make("progress", task, current=2),
        entry(task, 1),
        events.make("state", task, state="SUCCESS", result=1),
        events.make("progress", task, current=3),
        entry(task, 2),
        events.make("state", task, state="FAILURE"),
    ]


def test_a_batch_changes_the_state_as_single_messages_do(channel: Channel) -> None:
    """The events of two tasks in one batch leave the state and the messages that they leave one by one."""
    transport = transport_of(channel)
    alone, first, second = (life_of(task) for task in ("alone", "first", "second"))
    ids = [transport.publish(publication) for publication in alone]
    assert [message_id is None for message_id in ids] == [False] * 6 + [True] * 3
    mixed = [publication for pair in zip(first, second, strict=True) for publication in pair]
    with channel.topic(bridge.FEED).subscribe() as feed:
        assert transport.publish_many(mixed) == len(mixed)
        kept = [publication.payload for publication in mixed[:12]]
        assert [feed.receive(timeout=10) for _ in kept] == kept
    (expected,) = transport.states(bridge.task_topic("alone"))
    for task in ("first", "second"):
        (found,) = transport.states(bridge.task_topic(task))
        assert found.fields.keys() == expected.fields.keys()
        assert b'"current":2' in found.fields["progress"]
        assert b"SUCCESS" in found.fields["state"]
        assert len(found.entries) == len(expected.entries) == 2
        history = transport.backend.history(bridge.task_topic(task), 100)
        assert [message.type for message in history] == [publication.type for publication in alone[:6]]
        assert [message.id and message.id.split("-")[1] for message in history] == list("123456")


@pytest.mark.parametrize("again", [False, True])
def test_a_batch_goes_out_once(channel: Channel, again: bool) -> None:
    """Messages that were published already are not published again, wherever they stand in the batch."""
    publications = [*plain("numbers", *range(30)), *plain("others", *range(30))]
    assert transport_of(channel).publish_many(publications[10:20]) == 10
    assert transport_of(channel).publish_many(repeated(publications[10:]) if again else publications[20:])
    assert transport_of(channel).publish_many(repeated(publications[10:])) == 50
    assert published(channel, "numbers") == list(range(10, 30))
    assert published(channel, "others") == list(range(30))


def test_two_messages_with_one_token_are_one(channel: Channel) -> None:
    """Also when both are in the same batch."""
    token = new_token()
    publications = [Publication("numbers", b"1", token=token, repeated=True) for _ in range(2)]
    assert transport_of(channel).publish_many(publications) == 2
    assert published(channel, "numbers") == [1]


def test_a_batch_is_bounded(channel: Channel, own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call to the server takes so many messages and so many bytes, and larger messages one by one."""
    sizes: list[int] = []
    redis_backend = transport_of(channel).backend
    assert isinstance(redis_backend, backend.RedisBackend)
    send = redis_backend._servers.send

    def noting(*command: str | bytes | int) -> object:
        sizes.append(sum(len(word) for word in command if isinstance(word, bytes)))
        return send(*command)

    transport_of(channel).publish(Publication("other", b""))  # the server knows the script from now on
    monkeypatch.setattr(redis_backend._servers, "send", noting)
    large = [Publication("numbers", (b"%d" % number).ljust(100_000)) for number in range(20)]
    assert transport_of(channel).publish_many(large) == 20
    assert max(sizes) < backend.MAX_BATCH_BYTES + 10_000
    assert published(channel, "numbers") == list(range(20))
    sizes.clear()
    huge = [Publication("numbers", (b"%d" % number).ljust(1_000_000)) for number in range(20, 23)]
    assert transport_of(channel).publish_many(huge) == 3
    assert len(sizes) == 3
    sizes.clear()
    assert transport_of(channel).publish_many(plain("small", *range(120))) == 120
    assert len(sizes) == 3
    assert published(channel, "small") == list(range(120))


def every_kind() -> list[list[Publication]]:
    return [
        plain("plain", 0),
        [entry("task", 0)],
        [part("one")],
        [*plain("plain", 1), part("two"), entry("task", 2)],
    ]


STRANGERS = {
    "meta": [plain("task:task", 0), [entry("task", 0)]],
    "log": [plain("task:task", 0), [entry("task", 0)]],
    "entries": [[entry("task", 0)]],
    "parts": [[part("task")]],
    "row_order": [[part("task")]],
    "rows": [[part("task")]],
    "members": [[entry("task", 0)], [part("task")]],
}
"""The kinds of key that another program might have taken, and messages that need them."""


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("scheme", ["redis", "redis+pubsub"])
def test_a_key_of_another_program_leaves_nothing_half_written(
    own_valkey: Valkey, scheme: str, kind: str
) -> None:
    """A message that needs a key which holds something else is refused, and nothing is written."""
    for topic in ("task:task", events.task_topic("canvas:w"), bridge.FEED):
        own_valkey.command("SET", f"bridge:{{t:{topic}}}:{kind}", "a string")
    with bridge.connect(own_valkey.url(scheme)) as channel:
        before = everything(own_valkey)
        for publications in STRANGERS[kind]:
            if scheme == "redis+pubsub" and (publications[0].change is None or kind == "log"):
                continue
            assert "WRONGTYPE" in refused(channel, publications)
            assert everything(own_valkey) == before


def forbidden() -> Iterator[tuple[str, list[str], str]]:
    """Yield what a user may not do, and what the error names."""
    for command in ("publish", "xadd", "xtrim", "hset", "hincrby", "rpush", "zadd", "expire", "pexpire"):
        yield command, [f"-{command}"], command
    yield "channel", ["resetchannels", f"&/0.bridge:{{t:{bridge.FEED}}}:log"], "/0.bridge:{t:task:task}:log"
    yield "feed", ["resetchannels", "&/0.bridge:{t:task:task}:log"], f"/0.bridge:{{t:{bridge.FEED}}}:log"
    yield "key", ["resetkeys", f"~bridge:{{t:{bridge.FEED}}}:*"], "bridge:{t:task:task}:"
    yield "feed's key", ["resetkeys", "~bridge:{t:task:task}:*"], f"bridge:{{t:{bridge.FEED}}}:"


@pytest.mark.parametrize(
    ("rules", "names"), [case[1:] for case in forbidden()], ids=[case[0] for case in forbidden()]
)
def test_a_missing_permission_leaves_nothing_half_written(
    own_valkey: Valkey, rules: list[str], names: str
) -> None:
    """A refused message is written nowhere, and the error says which permission is missing on what."""
    own_valkey.command("ACL", "SETUSER", "ann", "on", ">pw", "~*", "&*", "+@all", *rules)
    with bridge.connect(f"redis://ann:pw@127.0.0.1:{own_valkey.port}/0") as channel:
        error = refused(channel, [entry("task", 0)])
        assert names in error.lower()
        assert own_valkey.command("KEYS", "*") == []
        assert refused(channel, [entry("task", 0), *plain("numbers", 0)])
        assert own_valkey.command("KEYS", "*") == []
        own_valkey.command("ACL", "SETUSER", "ann", "~*", "&*", "+@all")
        assert transport_of(channel).publish_many(repeated([entry("task", 0)])) == 1


def test_a_missing_permission_for_the_feed_leaves_nothing_where_nothing_is_logged(own_valkey: Valkey) -> None:
    """On redis+pubsub:// the state of a task stays as it is if the feed's channel is forbidden."""
    rules = ["on", ">pw", "~*", "+@all", "resetchannels", "&/0.bridge:task:task"]
    own_valkey.command("ACL", "SETUSER", "ann", *rules)
    with bridge.connect(f"redis+pubsub://ann:pw@127.0.0.1:{own_valkey.port}/0") as channel:
        assert f"/0.bridge:{bridge.FEED}" in refused(channel, [entry("task", 0)])
        assert own_valkey.command("KEYS", "*") == []


def test_a_missing_permission_for_the_feed_leaves_nothing_on_another_node(cluster: Cluster) -> None:
    """In a cluster the task's own message is not written either if the feed's channel is forbidden."""
    for node in cluster.nodes:
        rules = ["on", ">pw", "~*", "+@all", "resetchannels", "&/0.refused:{t:task:*"]
        node.command("ACL", "SETUSER", "ann", *rules)
    url = cluster.url().replace("://", "://ann:pw@")
    with bridge.connect(url, namespace="refused") as channel:
        assert f"/0.refused:{{t:{bridge.FEED}}}:log" in refused(channel, [entry("task", 0)])
        assert not any(node.command("KEYS", "refused:*") for node in cluster.nodes)


def test_one_forbidden_topic_does_not_hold_up_those_before_it(own_valkey: Valkey) -> None:
    """Of a batch whose second topic the user may not write, the first is published."""
    own_valkey.command("ACL", "SETUSER", "ann", "on", ">pw", "+@all", "&*", "~bridge:{t:numbers}:*")
    with bridge.connect(f"redis://ann:pw@127.0.0.1:{own_valkey.port}/0") as channel:
        publications = [*plain("numbers", 0), *plain("others", 1)]
        assert transport_of(channel).publish_many(publications) == 1
        assert published(channel, "numbers") == [0]
        assert "bridge:{t:others}:" in refused(channel, publications[1:])


@pytest.mark.parametrize("refusal", ["NOPERM", "WRONGTYPE"])
def test_a_refused_topic_holds_up_no_event_of_another(
    own_valkey: Valkey, refusal: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The background publisher drops what the server refuses, logs it once, and sends everything else."""
    if refusal == "NOPERM":
        own_valkey.command("ACL", "SETUSER", "ann", "on", ">pw", "+@all", "&*", "~bridge:{t:numbers}:*")
    else:
        own_valkey.command("ACL", "SETUSER", "ann", "on", ">pw", "+@all", "&*", "~*")
        own_valkey.command("SET", "bridge:{t:others}:meta", "a string")
    with bridge.connect(f"redis://ann:pw@127.0.0.1:{own_valkey.port}/0") as channel:
        publisher = BackgroundPublisher(transport_of(channel))
        for number in range(3):
            publisher.put(Publication("others", b"refused"))
            publisher.put(Publication("numbers", b"%d" % number))
        assert publisher.flush(10)
        assert published(channel, "numbers") == [0, 1, 2]
        assert publisher.dropped == 3
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "'others'" in line


@pytest.mark.parametrize("scheme", ["redis+pubsub", "redis+sharded", "redis"])
def test_a_forbidden_channel_is_named(own_valkey: Valkey, scheme: str) -> None:
    """A publisher without permission for the channel gets its name in the error."""
    own_valkey.command("ACL", "SETUSER", "ann", "on", ">pw", "+@all", "~*", "resetchannels", "&other")
    with bridge.connect(f"{scheme}://ann:pw@127.0.0.1:{own_valkey.port}/0") as channel:
        name = "/0.bridge:{t:orders}:log" if scheme == "redis" else "/0.bridge:orders"
        with pytest.raises(bridge.PublishError) as error:
            channel.topic("orders").publish(b"one")
        assert name in str(error.value)
        assert "pw" not in str(error.value).split()
        assert own_valkey.command("KEYS", "*") == []


def test_a_log_whose_numbering_was_lost_goes_on(own_valkey: Valkey, channel: Channel) -> None:
    """A topic of which only the log is left, with marks ahead of the clock, takes messages again."""
    own_valkey.command("XADD", "bridge:{t:numbers}:log", f"{2**52}-7", "p", b"0", "t", "token")
    assert transport_of(channel).publish_many([*plain("numbers", 1), *plain("numbers", 2)]) == 2
    assert published(channel, "numbers")[-2:] == [1, 2]


def test_a_full_server_takes_a_batch_whole_or_not_at_all(own_valkey: Valkey, channel: Channel) -> None:
    """Out of memory: nothing is written, the error says so; with memory again all is published in order."""
    own_valkey.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    for publications in every_kind():
        own_valkey.command("CONFIG", "SET", "maxmemory", "1")
        before = everything(own_valkey)
        assert "maxmemory" in refused(channel, publications)
        assert everything(own_valkey) == before
        own_valkey.command("CONFIG", "SET", "maxmemory", "0")
        assert transport_of(channel).publish_many(repeated(publications)) == len(publications)
    assert published(channel, "plain") == [0, 1]
    assert len(transport_of(channel).backend.history(bridge.FEED, 100)) == 4


def test_memory_that_comes_and_goes_reorders_nothing(own_valkey: Valkey) -> None:
    """While the server is now full and now not, publishing goes on in order, each message once."""
    own_valkey.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    command = [sys.executable, "-c", PUBLISHER, own_valkey.url("redis"), "a", "1000"]
    with subprocess.Popen(command) as process:
        try:
            while process.poll() is None:
                own_valkey.command("CONFIG", "SET", "maxmemory", "1")
                time.sleep(0.002)
                own_valkey.command("CONFIG", "SET", "maxmemory", "0")
                time.sleep(0.002)
        finally:
            process.kill()
    with bridge.connect(own_valkey.url("redis")) as channel:
        found = [
            int(message.split()[1]) for message in transport_of(channel).backend.history("numbers", 2000)
        ]
    assert found == list(range(1000))


def test_a_replica_takes_nothing(own_valkey: Valkey, channel: Channel) -> None:
    """READONLY: a server that became a replica refuses a batch whole, and takes it as a primary."""
    for publications in every_kind():
        own_valkey.command("REPLICAOF", "127.0.0.1", "1")
        assert "read only" in refused(channel, publications)
        own_valkey.command("REPLICAOF", "NO", "ONE")
        assert transport_of(channel).publish_many(repeated(publications)) == len(publications)
    assert published(channel, "plain") == [0, 1]


def test_a_server_that_loads_takes_nothing() -> None:
    """LOADING: a batch is refused whole while the server reads its file, and taken after that."""
    settings = {"enable-debug-command": "yes", "loading-process-events-interval-bytes": "1024"}
    with Valkey(**settings) as server, bridge.connect(server.url("redis"), timeout=5) as channel:
        assert transport_of(channel).publish_many(plain("numbers", 0, 1)) == 2
        server.command("DEBUG", "POPULATE", "200", "filler", "10000")
        server.command("SAVE")
        server.kill()
        server.settings["key-load-delay"] = "10000"
        publications = plain("numbers", 2, 3)
        with ThreadPoolExecutor() as pool:
            started = pool.submit(server.start)
            eventually(lambda: "loading" in refused(channel, publications))
            started.result()
        assert transport_of(channel).publish_many(repeated(publications)) == 2
        assert published(channel, "numbers") == [0, 1, 2, 3]
