"""KeySet: the public keys of another issuer, fetched from its JWKS URL (RFC 7517)."""

import ipaddress
import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException

# `Any` in this module: the document of another server is unchecked JSON.
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from bridge.errors import ConfigurationError, needs_extra
from bridge.streams.access.keys import Key
from bridge.support.fork import reset_in_child
from bridge.support.urls import without_secrets

logger = logging.getLogger("bridge.streams.access")

FETCH_WITHIN = 5.0
"""Seconds that a fetch may wait for the other server."""

FETCH_AT_MOST_EVERY = 10.0
"""Seconds between two fetches, whatever tokens are sent."""

FRESH_FOR = 300.0
"""Seconds after which the keys are fetched again, so that a withdrawn key stops to count."""

KEPT_FOR = 3600.0
"""Seconds for which keys count while the other server does not answer."""

LARGEST_DOCUMENT = 256 * 1024
"""Bytes of a document."""

ASYMMETRIC = frozenset(
    {"ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
)
"""The algorithms of keys that may be public."""


class KeysUnavailable(Exception):
    """The keys cannot be fetched now."""


class MustWait(Exception):
    """Verifying would wait for another server. Do it again in a thread that may wait."""


class KeySet:
    """The keys of one URL, by their ids. Fetches in the thread that asks. Threads may share it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Mapping[str | None, Key] = {}
        self._fetched_at = self._tried_at = -KEPT_FOR
        self._is_logged = False
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """Another thread may have held the lock."""
        self._lock = threading.Lock()  # Guards a fetch, and is held while it waits.

    def keys_for(self, key_id: str | None, *, may_wait: bool) -> Sequence[Key]:
        """Return the keys that may have signed a token whose `kid` is `key_id`. A set of one needs no id.

        Fetches the keys if they are old, or if this one is unknown; without `may_wait` raises `MustWait`
        instead. Raises `KeysUnavailable` if there are no keys.
        """
        if self._is_wanted(key_id):
            if not may_wait and (self._is_due() or (not self._keys and self._lock.locked())):
                raise MustWait
            if may_wait:
                self._refresh(key_id)
        keys = self._keys
        if not keys or time.monotonic() - self._fetched_at > KEPT_FOR:
            raise KeysUnavailable("the keys that verify tokens cannot be fetched")
        if key_id is None:
            return list(keys.values()) if len(keys) == 1 else []
        return [keys[key_id]] if key_id in keys else []

    def _is_wanted(self, key_id: str | None) -> bool:
        is_old = time.monotonic() - self._fetched_at >= FRESH_FOR
        return is_old or (key_id is not None and key_id not in self._keys)

    def _is_due(self) -> bool:
        return time.monotonic() - self._tried_at >= FETCH_AT_MOST_EVERY

    def _refresh(self, key_id: str | None) -> None:
        # Without keys everyone waits for the first ones. Later, one thread fetches and nobody else waits.
        if not self._lock.acquire(blocking=not self._keys):
            return
        try:
            if self._is_wanted(key_id) and self._is_due():
                self._fetch()
        finally:
            self._lock.release()

    def _fetch(self) -> None:
        """Fetch the keys. Requires holding `_lock`."""
        self._tried_at = time.monotonic()
        try:
            self._keys = _read_document(_download(self._url))
            self._fetched_at = time.monotonic()
            self._is_logged = False
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            if not self._is_logged:
                self._is_logged = True
                logger.error(
                    "the keys of BRIDGE_TOKEN_JWKS_URL (%s) cannot be fetched: %s; see that this process can "
                    "reach it. It is tried again every %g seconds, and the last keys count for an hour",
                    without_secrets(self._url),
                    error or type(error).__name__,
                    FETCH_AT_MOST_EVERY,
                    extra={"event": "token_keys_unreachable", "url": without_secrets(self._url)},
                )


class _NoRedirects(HTTPRedirectHandler):
    """A redirect could lead to a server without encryption."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _download(url: str) -> bytes:
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked by check_jwks_url
    deadline = time.monotonic() + FETCH_WITHIN
    document = b""
    with build_opener(_NoRedirects).open(request, timeout=FETCH_WITHIN) as response:
        while data := response.read1(LARGEST_DOCUMENT + 1 - len(document)):
            document += data
            if len(document) > LARGEST_DOCUMENT:
                raise ValueError(f"the document has more than {LARGEST_DOCUMENT} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the document did not come within {FETCH_WITHIN:g} seconds")
    return document


def _read_document(document: bytes) -> Mapping[str | None, Key]:
    """Return the keys of a document. Raises `ValueError` if it has none that is public and for signatures."""
    import jwt

    decoded = json.loads(document)
    listed = decoded.get("keys") if isinstance(decoded, dict) else None
    keys: dict[str | None, Key] = {}
    for each in listed if isinstance(listed, list) else ():
        if not isinstance(each, dict) or each.get("kty") == "oct" or each.get("use", "sig") != "sig":
            continue
        try:
            read = jwt.PyJWK({name: value for name, value in each.items() if name != "d"})
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):  # a kind of key that we do not know
            continue
        key_id = each.get("kid")
        if read.algorithm_name in ASYMMETRIC and (key_id is None or isinstance(key_id, str)):
            keys[key_id] = Key(read.algorithm_name, read.key)
    if not keys:
        raise ValueError("the document has no public key for signatures")
    return keys


def check_jwks_url(url: object, name: str) -> str:
    """Return `url` if it is one of https, or of http to this machine. Raises `ConfigurationError`."""
    try:
        if not isinstance(url, str):
            raise ValueError
        parts = urlsplit(url)
        if (parts.scheme == "https" and parts.hostname) or (
            parts.scheme == "http" and _is_loopback(parts.hostname)
        ):
            with needs_extra(name, "tokens"):
                import jwt  # noqa: F401
            return url
    except ValueError:
        pass
    raise ConfigurationError(f"{name} must be a URL that begins with https://, or http://localhost")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
