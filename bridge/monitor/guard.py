"""Decides who may reach the monitor where no application stands before it. No I/O.

A page of another site can let a name of its own point to this machine (DNS rebinding), and would then read
the monitor. So a request must name this machine: by an IP address, or by one of a few names.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

LOCAL_NAMES = frozenset({"localhost"})


def host_name(header: str) -> str:
    """Return the name or the address in a `Host` header, in lower case, without the port and brackets."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def is_address(name: str) -> bool:
    """Return whether `name` is an IP address: no DNS can make one point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens on `host`."""
    return host in LOCAL_NAMES or (is_address(host) and ipaddress.ip_address(host).is_loopback)


class Verdict(NamedTuple):
    """What a guard decides. The request goes on if both members are empty."""

    refused: str = ""
    """Why the request is refused."""
    login: str | None = None
    """Where to send the browser with the cookie: the query without the token."""


@dataclass(frozen=True)
class Guard:
    """Knows the names of this machine, and the secret if one is needed. Threads may share it."""

    names: frozenset[str]
    needs_token: bool
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """The secret in the URL that is printed."""
    session: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """The value of the cookie that a browser gets for it."""
    cookie_name: str = field(default_factory=lambda: f"bridge_monitor_{secrets.token_hex(4)}")
    """Another one at each start: cookies of two ports of a machine are not apart."""

    @classmethod
    def make(cls, host: str, allowed_hosts: Iterable[str], *, own_name: str, public: bool) -> "Guard":
        """Return the guard of a server that listens on `host`, on a machine that is called `own_name`."""
        names = {host_name(name) for name in (host, own_name, *allowed_hosts)}
        return cls(LOCAL_NAMES | names, needs_token=not (public or is_loopback(host)))

    def check(self, *, host: str, cookie: str | None, authorization: str | None, query: str) -> Verdict:
        """Decide about a request, by its headers, the session in its cookie, and its query."""
        name = host_name(host)
        if name not in self.names and not is_address(name):
            return Verdict(
                f"The host name {name[:255]!r} is not allowed. If it is this machine, start the monitor "
                "with --allowed-host and this name."
            )
        if not self.needs_token or _same(cookie, self.session):
            return Verdict()
        scheme, _, bearer = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self.token):
            return Verdict()
        pairs = parse_qsl(query, keep_blank_values=True)
        if any(key == "token" and _same(value, self.token) for key, value in pairs):
            return Verdict(login=urlencode([(key, value) for key, value in pairs if key != "token"]))
        return Verdict("This monitor needs its token. Open the URL that the command printed when it started.")


def _same(given: str | None, secret: str) -> bool:
    """Compare without telling by the time how much is right."""
    return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())
