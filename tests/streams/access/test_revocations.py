"""Revocations: what a process knows of them, and what the backend keeps."""

import uuid
from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.streams.access.revocations import TOPIC, Revocation, Revocations, decode
from tests.conftest import Connect
from tests.servers import eventually


def kept(channel: bridge.BroadcastChannel) -> list[str]:
    """Return the names of the fields that the backend keeps."""
    return [name for state in transport_of(channel).states(TOPIC) for name in state.fields]


def test_the_backend_forgets_revocations_that_refuse_nothing_any_more(connect: Connect) -> None:
    """With the next revocation, so the state is as large as what was revoked in the life of a token."""
    channel = connect()
    short = Revocations(transport_of(channel), lifetime=0.001)
    for number in range(3):
        short.revoke(subject=f"user {number}", token_id=None, topic=None)
    longer = Revocations(transport_of(connect()), lifetime=60)
    longer.join()
    eventually(lambda: not longer.missing)
    longer.revoke(subject="42", token_id=None, topic=None)
    assert len(kept(channel)) == 1
    assert longer.refuses("42", "", 0)
    assert not longer.refuses("user 0", "", 0)


def test_what_the_backend_loses_before_it_is_heard_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that loses its data right after a revocation looks as it did before."""
    channel = bridge.connect(f"memory://{uuid.uuid4().hex}")
    revocations = Revocations(transport_of(channel), lifetime=60)
    revocations.join()
    eventually(lambda: not revocations.missing)
    with monkeypatch.context() as deaf:
        deaf.setattr(Revocations, "_post", lambda *_: None)
        revocations.revoke(subject="42", token_id=None, topic=None)
        lost = kept(channel)
        transport_of(channel).backend.remove_fields(TOPIC, lost)
        channel.topic("other").as_subscriber().subscribe().close()  # the hub has handed on what was published
    assert kept(channel) == []
    revocations.establish(TOPIC)  # as the hub does when the connection is back
    eventually(lambda: kept(channel) == lost)
    eventually(lambda: not revocations._unheard)
    channel.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "a subject, a token_id or a topic"),
        ({"subject": ""}, "subject must be a str that is not empty"),
        ({"token_id": 42}, "token_id must be a str that is not empty, not 42"),
        ({"topic": "a\nb"}, "a topic must not contain control characters"),
    ],
)
def test_what_cannot_be_revoked(given: dict[str, Any], message: str) -> None:
    """Nothing, and values that no token and no topic has."""
    revocations = Revocations(transport_of(bridge.connect(f"memory://{uuid.uuid4().hex}")), lifetime=60)
    with pytest.raises(ValueError, match=message):
        revocations.revoke(**{"subject": None, "token_id": None, "topic": None, **given})


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[" * 9999, b"[]", b'{"kind":"subject"}', b'{"at":NaN}'])
def test_what_is_no_revocation(payload: bytes) -> None:
    """A newer version may publish other things."""
    assert decode(payload) is None


def test_a_revocation_and_its_json() -> None:
    """A process reads what another one wrote."""
    revocation = Revocation("subject", "ab", 1.5, 2.5)
    assert decode(revocation.encode()) == revocation
