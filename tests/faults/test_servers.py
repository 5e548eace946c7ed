"""The servers that the fault suite breaks: they come up, fail over, lose what they shall lose, and go."""

import signal

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import Cluster, Replicated, Sentinel, Valkey, eventually


def test_a_durable_server_has_all_it_answered_for() -> None:
    """What a durable server acknowledged before a kill (-9) is there after the start that follows."""
    with Valkey.durable() as server:
        for number in range(100):
            server.command("SET", str(number), number)
        server.kill()
        assert not server.running
        server.start()
        assert server.command("DBSIZE") == 100


def test_a_paused_server_answers_when_it_goes_on() -> None:
    """SIGSTOP holds every answer back, and SIGCONT releases it."""
    with Valkey() as server:
        server.signal(signal.SIGSTOP)
        once = Retry(NoBackoff(), 0)
        with redis.Redis(port=server.port, socket_timeout=0.2, retry=once) as client:
            with pytest.raises(redis.TimeoutError):
                client.ping()
            server.signal(signal.SIGCONT)
            eventually(lambda: server.command("PING"))


def test_three_primaries_share_all_slots() -> None:
    """A cluster without replicas takes keys of every slot, each on the node that owns it."""
    with Cluster() as cluster:
        with redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port) as client:
            for number in range(100):
                client.set(f"key {number}", number)
        sizes = [node.command("DBSIZE") for node in cluster.nodes]
        assert (sum(sizes), len(sizes)) == (100, 3)
        assert all(sizes)
    assert not any(node.running for node in cluster.nodes)


@pytest.mark.parametrize("kind", [Sentinel, lambda: Cluster(replicas=1)], ids=["sentinel", "cluster"])
def test_a_replica_takes_over_with_what_it_had(kind: type[Replicated]) -> None:
    """A replica takes its killed primary's place as it was at `cut`; the old primary becomes its replica."""
    with kind() as servers:
        old = next(node for node in servers.nodes if _takes(node, "copied"))
        replica = servers.replica(old)
        eventually(lambda: replica.command("DBSIZE") == 1)
        assert servers.primary("{t}") is old
        servers.cut(old, replica)
        assert _takes(old, "lost")
        old.kill()
        servers.await_takeover(replica)
        assert replica.command("GET", "{t}") == b"copied"
        assert servers.primary("{t}") is replica
        old.start()
        servers.await_return(old)
        assert servers.replica(replica) is old


def test_three_sentinels_agree_on_a_takeover() -> None:
    """Of three Sentinels two are enough to put the replica in its primary's place, and all then know it."""
    with Sentinel(sentinels=3) as servers:
        old, replica = servers.nodes
        servers.sentinels[0].kill()
        old.kill()
        servers.await_takeover(replica)


def _takes(node: Valkey, value: str) -> bool:
    """Set a key, unless another node of the cluster owns it."""
    try:
        return bool(node.command("SET", "{t}", value))
    except redis.ResponseError:
        return False
