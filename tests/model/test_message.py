"""Messages as backends make them and readers get them."""

from bridge.model.counts import Counts
from bridge.model.message import Message, make_message

COUNTED = make_message(b'{"v":1}', topic="t", id="e-1-2", type="state", counts=Counts(1, running=1))


def test_a_message_without_counts_is_its_payload() -> None:
    """The payload of other messages stays as it is, whatever it is."""
    message = make_message(b"\x01}", topic="t", type=None, counts=None)
    assert message == b"\x01}"
    assert (message.topic, message.id, message.type, message.counted) == ("t", None, None, False)


def test_a_counted_message_has_the_figures() -> None:
    """The counts become members of the payload."""
    parts = b'{"waiting":0,"running":1,"succeeded":0,"revoked":0,"failed":0}'
    assert b'{"v":1,"parts":%s}' % parts == COUNTED
    assert (COUNTED.type, COUNTED.counted) == ("state", True)


def test_copies_keep_the_type() -> None:
    """A copy for a durable reader or without an id is the same message otherwise."""
    for copy in (COUNTED.for_reader(lambda _: None), COUNTED.without_id()):
        assert copy == COUNTED
        assert (copy.topic, copy.type, copy.counted) == ("t", "state", True)
    assert COUNTED.without_id().id is None


def test_the_representation_names_the_type() -> None:
    """A message with a type shows it."""
    assert repr(Message(b"one", topic="t")) == "<Message b'one' topic='t' id=None>"
    assert repr(Message(b"one", topic="t", type="x")) == "<Message b'one' topic='t' id=None type='x'>"
