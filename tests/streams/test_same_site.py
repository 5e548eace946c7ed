"""Requests of other sites are told from those of the own site, and of programs."""

import pytest

from bridge.streams.refusal import Refusal
from bridge.streams.same_site import refuse_other_sites

HOST = "app.example:8000"


def is_refused(method: str = "POST", site: str | None = None, origin: str | None = None) -> bool:
    """Return whether a request to `HOST` with these headers is refused."""
    try:
        refuse_other_sites(method, sec_fetch_site=site, origin=origin, host=HOST)
    except Refusal as refusal:
        return refusal.status == 403
    return False


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "x"])
def test_a_browser_says_that_another_site_asks(site: str) -> None:
    """Whatever `Origin` says, only the own site and the address bar count."""
    assert is_refused(site=site, origin=f"https://{HOST}")
    assert not is_refused("GET", site=site)


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", f"https://{HOST}.evil.example", "https://app.example"]
)
def test_an_older_browser_names_the_origin(origin: str) -> None:
    """Without `Sec-Fetch-Site` the origin must be the host that was asked."""
    assert is_refused(origin=origin)
    assert not is_refused("HEAD", origin=origin)


@pytest.mark.parametrize("origin", ["null", "", "https://"])
def test_an_origin_without_a_host_is_none_of_a_request_without_one(origin: str) -> None:
    """A request that names no host is of no site, so it is not of the own one."""
    with pytest.raises(Refusal):
        refuse_other_sites("POST", sec_fetch_site=None, origin=origin, host="")


def test_the_own_site_and_programs_may_ask() -> None:
    """The scheme of the origin does not count, because a proxy may terminate TLS."""
    assert not is_refused(site="same-origin")
    assert not is_refused(site="none")
    assert not is_refused(origin=f"https://{HOST}")
    assert not is_refused(origin=f"http://{HOST.upper()}")
    assert not is_refused("DELETE")
