"""Passwords, keys and tokens are in no log line, error, traceback or repr, whatever fails."""

import json
import logging
import traceback
import uuid
from collections.abc import Callable

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.errors import BridgeError
from bridge.streams.access.authorization import Authorizer, HowToAllow
from bridge.streams.access.revocations import Revocations
from bridge.streams.limits import Client
from bridge.streams.refusal import Refusal
from bridge.streams.request import StreamRequest
from bridge.streams.settings import read_settings
from tests.servers import free_port
from tests.tokens import OTHER_SECRET, SECRET, token

PASSWORD = "hunter2hunter2"
URLS = (
    "redis://user:{password}@127.0.0.1:{port}/0",
    "redis://:{password}@127.0.0.1:{port}/0?socket_timeout=1",
    "redis+pubsub://:{password}@127.0.0.1:{port}",
    "redis+sharded://:{password}@127.0.0.1:{port}",
    "redis+cluster://:{password}@127.0.0.1:{port}",
    "redis+sentinel://:{password}@127.0.0.1:{port}/main",
    "postgresql://user:{password}@127.0.0.1:{port}/db",
)


@pytest.mark.parametrize("url", URLS, ids=lambda url: url.partition(":")[0])
def test_a_password_is_shown_nowhere_while_the_backend_is_away(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Publishing, subscribing and every repr: the host is told, and the password is not."""
    caplog.set_level(logging.DEBUG)
    given = url.format(password=PASSWORD, port=free_port())
    shown = ""
    with bridge.connect(given, timeout=0.5, namespace=uuid.uuid4().hex) as channel:
        topic = channel.topic("orders")
        acts: list[Callable[[], object]] = [lambda: topic.publish(b"x"), topic.subscribe]
        for act in acts:
            with pytest.raises(BridgeError) as caught:
                act()
            shown += "".join(traceback.format_exception(caught.value))
        transport = transport_of(channel)
        for thing in (channel, topic, transport, vars(transport)):
            shown += repr(thing)
    assert "127.0.0.1" in shown
    assert PASSWORD not in shown + caplog.text


def test_the_settings_and_what_decides_show_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Neither keys nor tokens are in a repr, a refusal or a traceback with its locals' reprs."""
    caplog.set_level(logging.DEBUG)
    given = {"URL": f"redis://:{PASSWORD}@localhost", "TOKEN_KEYS": [SECRET]}
    settings = read_settings(given, prefix="", url_setting="URL")
    revocations = Revocations(transport_of(bridge.connect(f"memory://{uuid.uuid4().hex}")), lifetime=60)
    authorizer = Authorizer(
        settings, lambda name: None, how_to_allow=HowToAllow("", ""), revocations=revocations
    )
    shown = repr(settings) + repr(authorizer) + repr(vars(authorizer)) + repr(settings.tokens)
    texts = [token("news", key=OTHER_SECRET), token("other"), token("news", expires=-1), token("news")]
    for text in texts:
        request = StreamRequest(
            "GET", None, f"token={text}", Client("192.0.2.1"), f"Bearer {text}", f"__Host-bridge_token={text}"
        )
        shown += repr(request)
        try:
            shown += repr(authorizer.permit(["news"], request, None))
        except Refusal as refusal:
            told = traceback.TracebackException.from_exception(refusal, capture_locals=False)
            shown += "".join(told.format()) + repr(refusal) + json.dumps(vars(refusal), default=repr)
    shown += caplog.text
    assert PASSWORD not in shown
    assert SECRET not in shown
    for text in texts:
        assert text not in shown
        assert text.split(".")[2] not in shown
