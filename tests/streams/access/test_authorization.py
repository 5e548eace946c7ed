"""Who may read and who may cancel: the token, or else the function, or else the settings."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.errors import ConfigurationError
from bridge.streams.access.authorization import (
    Authorizer,
    HowToAllow,
    Permission,
    check_cancel_decision,
    check_decision,
    soonest,
)
from bridge.streams.access.revocations import Revocations
from bridge.streams.limits import Client
from bridge.streams.refusal import Refusal
from bridge.streams.request import StreamRequest
from bridge.streams.settings import read_settings
from tests.tokens import SECRET, token

TASK = bridge.task_topic("t1")


def make(**options: Any) -> Authorizer:
    settings = read_settings({"URL": "memory://", **options}, prefix="", url_setting="URL")
    how_to_allow = HowToAllow("Set PUBLIC.", "Set CANCEL.")
    revocations = Revocations(transport_of(bridge.connect(f"memory://{uuid.uuid4().hex}")), lifetime=60)
    return Authorizer(settings, lambda name: None, how_to_allow=how_to_allow, revocations=revocations)


def request(token: str | None = None, cookies: str | None = None, query: str = "") -> StreamRequest:
    authorization = None if token is None else f"Bearer {token}"
    return StreamRequest("GET", None, query, Client("192.0.2.1"), authorization, cookies)


def refused(call: Callable[..., object], *arguments: Any) -> Refusal:
    """Call, and return the refusal that it raises."""
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value


def test_the_function_is_asked_about_each_topic() -> None:
    """In turn, and it is above the settings."""
    asked = []

    def may_read(topic: str) -> bool:
        asked.append(topic)
        return topic != "secret"

    authorizer = make(PUBLIC=True)
    assert authorizer.permit(["a", "b"], request(), may_read) == Permission()
    refusal = refused(authorizer.permit, ["a", "secret", "b"], request(), may_read)
    assert (refusal.status, refusal.detail, refusal.challenge) == (403, "you may not read this topic", None)
    assert asked == ["a", "b", "a", "secret"]


def test_without_a_function_the_settings_decide(caplog: pytest.LogCaptureFixture) -> None:
    """A public application shows everything, another one nothing, and the log says how to allow it."""
    assert make(PUBLIC=True).permit([TASK], request(), None) == Permission()
    assert refused(make().permit, [TASK], request(), None).status == 403
    assert "nothing decides who may read. Set PUBLIC." in caplog.text


def test_where_tokens_count_a_request_without_one_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    """It is usual that one has no token, so nothing is logged."""
    refusal = refused(make(TOKEN_KEYS=SECRET).permit, [TASK], request(), None)
    assert refusal.status == 401
    assert refusal.detail == (
        "this needs a token: send it in the header Authorization: Bearer TOKEN, or in the cookie "
        "__Host-bridge_token; a token in the URL is not accepted"
    )
    assert refusal.headers == {"WWW-Authenticate": 'Bearer realm="celery-event-bridge"'}
    in_query = make(TOKEN_KEYS=SECRET, TOKEN_IN_QUERY=True, TOKEN_COOKIE="__Host-mine")
    detail = refused(in_query.permit, [TASK], request(), None).detail
    assert detail.endswith("in the cookie __Host-mine, or in the URL as ?token=TOKEN")
    assert caplog.text == ""


def test_a_token_decides_in_place_of_the_function() -> None:
    """For the topics that it covers; with another topic it is too narrow, whatever the function says."""
    authorizer = make(TOKEN_KEYS=SECRET, PUBLIC=True)
    asked: list[str] = []
    sent = request(token("a", TASK))
    claims = authorizer.permit(["a", TASK], sent, asked.append).claims
    assert claims is not None
    assert (claims.subject, claims.token_id) == ("42", "a-token")
    refusal = refused(authorizer.permit, ["a", "b"], sent, lambda topic: True)
    assert (refusal.status, refusal.challenge) == (
        403,
        'Bearer realm="celery-event-bridge", error="insufficient_scope"',
    )
    assert asked == []


def test_a_token_that_is_not_valid_is_refused_whatever_else_allows() -> None:
    """The answer says why, in the header too."""
    sent = request(token("a", expires=-1))
    refusal = refused(make(TOKEN_KEYS=SECRET, PUBLIC=True).permit, ["a"], sent, lambda topic: True)
    assert (refusal.status, refusal.detail) == (401, "the token has expired")
    assert refusal.headers["WWW-Authenticate"] == (
        'Bearer realm="celery-event-bridge", error="invalid_token", error_description="the token has expired"'
    )


def test_without_keys_no_token_counts() -> None:
    """A header may be that of something else, and is not looked at."""
    assert make().permit(["a"], request("anything"), lambda topic: True) == Permission()
    assert make(PUBLIC=True).claims(request(token("a"))) is None


def test_the_settings_say_where_a_token_may_be() -> None:
    """In the cookie that they name, and in the query if they allow it."""
    authorizer = make(TOKEN_KEYS=SECRET, TOKEN_COOKIE="__Host-t", TOKEN_IN_QUERY=True)
    for sent in (request(cookies=f"__Host-t={token('a')}"), request(query=f"token={token('a')}")):
        assert authorizer.claims(sent) is not None
    sent = request(cookies=f"__Host-bridge_token={token('a')}", query=f"token={token('a')}")
    assert make(TOKEN_KEYS=SECRET).claims(sent) is not None
    assert make(TOKEN_KEYS=SECRET).claims(request(query=f"token={token('a')}")) is None


def test_keys_that_cannot_be_fetched_are_no_fault_of_the_client() -> None:
    """It is told to come back."""
    authorizer = make(TOKEN_JWKS_URL="http://127.0.0.1:1/keys")
    refusal = refused(authorizer.claims, request(token("a")))
    assert refusal.status == 503
    assert refusal.retry_after


@pytest.mark.parametrize(
    ("decisions", "ask_after"),
    [((True, True), None), ((60, True), 60.0), ((30, 60.5), 30.0), ((True, "yes"), None)],
)
def test_a_function_may_say_when_to_ask_again(decisions: tuple[object, ...], ask_after: float | None) -> None:
    """Of several topics the soonest counts."""
    answers = dict(zip("ab", decisions, strict=True))
    assert make().permit("ab", request(), answers.__getitem__) == Permission(None, ask_after)


@pytest.mark.parametrize("decision", [False, None, 0, 0.0, -1, float("nan"), ""])
def test_what_is_not_true_is_a_refusal(decision: object) -> None:
    """A time that has passed is one too."""
    assert refused(check_decision, decision).status == 403


@pytest.mark.parametrize("check", [check_decision, check_cancel_decision])
def test_a_coroutine_has_decided_nothing(check: Callable[[object], object]) -> None:
    """It would be true."""

    async def may() -> bool:
        return False

    with pytest.raises(ConfigurationError, match="is a coroutine function, which this framework does not"):
        check(may())


def test_soonest() -> None:
    """`None` stands for never."""
    assert (soonest(None, None), soonest(None, 1), soonest(2, None), soonest(2, 1)) == (None, 1, 2, 1)


def test_reading_never_includes_cancelling(caplog: pytest.LogCaptureFixture) -> None:
    """Neither public streams nor a token for reading allow it; the log says how to."""
    assert refused(make(PUBLIC=True).check_cancel, "t1", None, None).status == 403
    assert "refused to cancel 't1': nothing decides who may cancel. Set CANCEL." in caplog.text
    assert refused(make(TOKEN_KEYS=SECRET).check_cancel, "t1", None, None).status == 401
    authorizer = make(TOKEN_KEYS=SECRET)
    claims = authorizer.claims(request(token(TASK)))
    refusal = refused(authorizer.check_cancel, "t1", claims, lambda task: True)
    assert (refusal.status, refusal.detail) == (403, "the token is valid, but not for cancelling this task")
    assert "insufficient_scope" in (refusal.challenge or "")


def test_a_right_to_cancel_is_for_the_tasks_that_it_covers() -> None:
    """By a token or by the function; cancelling does not include reading either."""
    authorizer = make(TOKEN_KEYS=SECRET)
    claims = authorizer.claims(request(token(bridge={"topics": [TASK], "may": ["cancel"]})))
    assert claims is not None
    authorizer.check_cancel("t1", claims, None)
    assert refused(authorizer.check_cancel, "t2", claims, lambda task: True).status == 403
    assert refused(authorizer.permit_by_token, claims, [TASK]).status == 403
    authorizer.check_cancel("t2", None, lambda task: task == "t2")
    assert refused(authorizer.check_cancel, "t1", None, lambda task: task == "t2").status == 403


def test_tokens_are_made_with_the_keys_of_the_settings() -> None:
    """Without keys the error says what to set."""
    authorizer = make(TOKEN_KEYS=SECRET)
    made = authorizer.make_token(["a"], subject="42")
    claims = authorizer.claims(request(made))
    assert claims is not None
    assert (claims.subject, sorted(claims.scope.may)) == ("42", ["read"])
    with pytest.raises(ConfigurationError, match="set BRIDGE_TOKEN_KEYS to make tokens"):
        make().make_token(["a"])


def test_no_repr_of_a_request_shows_its_token() -> None:
    """A request may stand in the message of an error or in a log."""
    text = repr(request("hunter2", "__Host-bridge_token=hunter2", "token=hunter2"))
    assert text == "StreamRequest(GET of 192.0.2.1)"
