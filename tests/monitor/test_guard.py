"""Who reaches the monitor where no application stands before it."""

import pytest

from bridge.monitor.guard import Guard, host_name, is_loopback


def guard(host: str = "127.0.0.1", *allowed: str, public: bool = False) -> Guard:
    return Guard.make(host, allowed, own_name="Box", public=public)


def refused(found: Guard, host: str, **given: str) -> str:
    """Return why a request with this `Host` header is refused, nothing if it is not."""
    cookie, authorization = given.get("cookie"), given.get("authorization")
    query = given.get("query", "")
    return found.check(host=host, cookie=cookie, authorization=authorization, query=query).refused


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost:8000", "LOCALHOST.", "[::1]:8000", "10.1.2.3", "box", "monitor.example"],
)
def test_a_name_of_this_machine_is_allowed(host: str) -> None:
    """An address, `localhost`, the machine's own name and the names that are given may be asked for."""
    assert refused(guard("127.0.0.1", "Monitor.Example"), host) == ""


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8000", "localhost.evil.example", "", "[", "1.2.3"]
)
def test_a_name_of_others_is_refused(host: str) -> None:
    """A page whose own name points to this machine (DNS rebinding) learns nothing, in no mode."""
    for found in (guard(), guard("0.0.0.0", public=True), guard("0.0.0.0")):
        assert "--allowed-host" in refused(found, host)


def test_only_another_address_needs_the_token() -> None:
    """On loopback and with `public` none is asked for; elsewhere only the right one or its session counts."""
    assert not guard().needs_token
    assert not guard("::1").needs_token
    assert not guard("0.0.0.0", public=True).needs_token
    found = guard("0.0.0.0")
    assert found.needs_token
    for given in ({}, {"query": "token="}, {"query": "token=x"}, {"cookie": found.token}, {"cookie": ""}):
        assert "token" in refused(found, "10.0.0.1", **given)
    assert refused(found, "10.0.0.1", cookie=found.session) == ""
    assert refused(found, "10.0.0.1", authorization=f"Bearer {found.token}") == ""
    assert "token" in refused(found, "10.0.0.1", authorization=f"Basic {found.token}")


def test_the_token_of_the_url_becomes_a_session() -> None:
    """The answer leads to the same page without the token, and keeps the rest of the query."""
    found = guard("0.0.0.0")
    query = f"view=list&token={found.token}&q=a%26b"
    verdict = found.check(host="10.0.0.1", cookie=None, authorization=None, query=query)
    assert (verdict.refused, verdict.login) == ("", "view=list&q=a%26b")


def test_secrets_differ_and_are_not_shown() -> None:
    """Each start has its own, and the repr has none."""
    one, other = guard("0.0.0.0"), guard("0.0.0.0")
    assert len({one.token, one.session, other.token, other.session}) == 4
    assert one.token not in repr(one)
    assert one.session not in repr(one)


def test_hosts_are_read_from_headers() -> None:
    """With and without a port and brackets."""
    assert host_name("[fe80::1]:80") == "fe80::1"
    assert host_name("Example.COM:8000") == "example.com"
    assert is_loopback("127.0.0.5")
    assert not is_loopback("example.com")
