"""Texts that are made once for all viewers of a topic."""

import bridge
from bridge.model.message import Message
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import Encoder
from bridge.streams.rendering import PIECE, LargeText, Renderer, Text
from bridge.streams.takeover.connection import LAST_CHUNK, chunk
from tests import events


def test_a_text_has_both_framings() -> None:
    """The last text of a stream ends the chunked response; nothing is no chunk."""
    assert Text(b"one").chunked == b"3\r\none\r\n"
    assert Text(b"one", final=True).chunked == b"3\r\none\r\n" + LAST_CHUNK
    assert Text(b"").chunked == b""


def test_a_large_text_is_shared_in_pieces() -> None:
    """Pieces hold the whole text; framed, the last one ends the response."""
    raw = b"x" * (2 * PIECE + 1)
    text = LargeText(raw, final=True)
    assert b"".join(text.pieces(chunked=False)) == raw
    framed = text.pieces(chunked=True)
    assert framed is text.pieces(chunked=True)
    assert framed[0] == chunk(raw[:PIECE])
    assert framed[-1] == chunk(b"x") + LAST_CHUNK


def test_the_same_items_are_rendered_once() -> None:
    """Another list of the same messages gives the same text."""
    renderer = Renderer(with_ids=True)
    items = [Message(b"one", topic="orders"), Message(b"two", topic="orders")]
    text = renderer.for_all(items, has_state=False)
    assert renderer.for_all(list(items), has_state=False) is text
    assert renderer.for_all(items[:1], has_state=False) is not text


def test_progress_is_marked_with_its_topic() -> None:
    """Newer progress can replace it; the stream goes on."""
    topic = bridge.task_topic("t1")
    encoder = Encoder([topic], Cursor(), with_ids=False)
    progress = Message(events.make("progress", "t1", current=1).payload, topic=topic)
    text = Renderer(with_ids=False).for_one(encoder, [progress])
    assert isinstance(text, Text)
    assert (text.progress, text.final) == (topic, False)
