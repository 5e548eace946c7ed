"""What a worker logs when it starts."""

from tests.celery.workers import worker
from tests.servers import Valkey, free_port


def test_a_worker_logs_at_its_start_where_its_tasks_publish(own_valkey: Valkey) -> None:
    """Once, with the namespace and without the password; if nothing answers there, what that means."""
    away = f"redis://user:pa%2Fss@127.0.0.1:{free_port()}/3"
    with worker(own_valkey.url("redis"), away) as celery:
        lines = [line for line in celery.log().splitlines() if "the bridge cannot be reached" in line]
        assert len(lines) == 1
        assert "WARNING" in lines[0]
        assert "redis://127.0.0.1:" in lines[0]
        assert "/3, namespace 'bridge'" in lines[0]
        assert "pa%2Fss" not in celery.log()
        assert "pa/ss" not in celery.log()
    with worker(own_valkey.url("redis"), own_valkey.url("redis")) as celery:
        lines = [line for line in celery.log().splitlines() if "task events are published at" in line]
        assert len(lines) == 1
        assert f"127.0.0.1:{own_valkey.port}/0, namespace 'bridge'" in lines[0]
        assert "cannot be reached" not in celery.log()
