"""Tokens: signed texts (JWT, RFC 7519) that allow their holder to read topics or to cancel tasks.

The claims are `aud`, `exp`, `iat`, `jti`, where they are given `sub` and `iss`, and `bridge`, an object:

    {"topics": ["orders"], "prefixes": ["task:"], "tags": ["user:42"], "may": ["read", "cancel"]}

Each member may be missing; without `may` the token allows reading. Any issuer of JWTs can make such tokens.
"""

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

# `Any` in this module: claims are JSON, and unchecked until they are read.
from typing import Any, NamedTuple

from bridge.errors import ConfigurationError
from bridge.streams.access.jwks import KeySet
from bridge.streams.access.keys import Key
from bridge.streams.access.signatures import InvalidToken, key_id_of, payload_of, sign
from bridge.support.recent import Recent
from bridge.support.tokens import new_token
from bridge.support.validate import check_name, check_positive
from bridge.tasks.events import tag_topic

READ, CANCEL = "read", "cancel"
RIGHTS = (READ, CANCEL)

LONGEST_TOKEN = 8 * 1024
"""Characters of a token. A longer one is refused before it is parsed."""

KEPT, LONGEST_KEPT = 1000, 1024
"""Verified tokens that a process remembers: how many, and how many characters one of them has at most."""

LONGEST_LIFE = 7 * 86_400.0
"""Seconds that a token counts at most. Backends keep a revocation as long after it was published."""

CLOCKS_DIFFER = 60.0
"""Seconds by which the clock of an issuer may be ahead."""

LATEST = 1e12
"""Times in seconds since the epoch are smaller."""

EXPIRED = "the token has expired"

CLAIM = "bridge"
"""The claim that says what a token allows."""


class Scope(NamedTuple):
    """What a token covers."""

    topics: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    """Every topic whose name begins with one of these is covered."""
    tags: frozenset[str] = frozenset()
    """The feed of each of these tags is covered."""
    may: frozenset[str] = frozenset((READ,))

    def covers(self, topic: str) -> bool:
        """Return whether the token is for `topic`."""
        return (
            topic in self.topics
            or topic.startswith(self.prefixes)
            or any(topic == tag_topic(tag) for tag in self.tags)
        )


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    scope: Scope
    subject: str
    """The claim `sub`, or an empty text."""
    token_id: str
    """The claim `jti`, or an empty text."""
    expires_at: float
    """In seconds since the epoch."""
    issued_at: float
    """In seconds since the epoch; 0 if the token does not say it. It is then older than any revocation."""


class Tokens:
    """Makes and verifies the tokens of one application. Threads may share it."""

    def __init__(
        self,
        keys: Sequence[Key],
        key_set: KeySet | None,
        *,
        audience: str,
        issuer: str | None = None,
        lifetime: float = LONGEST_LIFE,
    ) -> None:
        """`keys` and `key_set`, of which at least one is given, verify. The first of `keys` signs.

        `lifetime` is the longest time that a token counts after it was issued, in seconds.
        """
        self._keys = keys
        self._key_set = key_set
        self._audience = audience
        self._issuer = issuer
        self._lifetime = lifetime
        # What the last tokens say that one of `keys` signed, by their digests. The keys of a key set may be
        # withdrawn, so their tokens are verified each time. Whoever asks checks what is revoked.
        self._verified: Recent[bytes, Claims] = Recent(KEPT)

    # Making.

    def sign(self, scope: Scope, *, expires: float, subject: str | None) -> str:
        """Return a token for `scope`, which `make_scope` returned, for so many seconds.

        Raises `ConfigurationError` without a key that signs, and `ValueError` for a bad argument or a token
        longer than `LONGEST_TOKEN`.
        """
        check_positive(unit="seconds", error=ValueError, expires=expires)
        if not math.isfinite(expires):
            raise ValueError(f"expires must be a number of seconds, not {expires!r}")
        if expires > self._lifetime:
            raise ValueError(
                f"expires must be at most {self._lifetime:g} seconds (BRIDGE_TOKEN_MAX_SECONDS), "
                f"not {expires!r}; give the client a new token before this one expires"
            )
        if subject is not None:
            check_name(subject, "a subject")
        if not self._keys:
            raise ConfigurationError("tokens are made with the first key of BRIDGE_TOKEN_KEYS; set it")
        key = self._keys[0]
        if key.signing is None:
            raise ConfigurationError(
                "the first key of BRIDGE_TOKEN_KEYS is public and can only verify; put a private key or a "
                "secret before it"
            )
        payload = json.dumps(self._payload(scope, math.ceil(time.time() + expires), subject))
        token = sign(payload.encode(), key)
        if len(token) > LONGEST_TOKEN:
            raise ValueError(
                f"this token would have {len(token)} characters, and {LONGEST_TOKEN} are allowed; name a "
                "prefix or a tag instead of many topics"
            )
        return token

    def _payload(self, scope: Scope, expires_at: int, subject: str | None) -> dict[str, Any]:
        covered = {"topics": sorted(scope.topics), "prefixes": scope.prefixes, "tags": sorted(scope.tags)}
        members = {name: value for name, value in covered.items() if value}
        payload = {
            "iss": self._issuer,
            "sub": subject,
            "aud": self._audience,
            "exp": expires_at,
            "iat": math.floor(time.time() * 1000) / 1000,  # a token may follow a revocation at once
            "jti": new_token().decode(),
            CLAIM: {**members, "may": sorted(scope.may)},
        }
        return {name: value for name, value in payload.items() if value is not None}

    # Verifying.

    def verify(self, token: str, *, may_wait: bool = True) -> Claims:
        """Return what `token` says.

        Raises `InvalidToken`; `KeysUnavailable` if the keys of another issuer cannot be fetched; and without
        `may_wait`, `MustWait` if they are to be fetched, which an event loop must not wait for.
        """
        if len(token) > LONGEST_TOKEN:
            raise InvalidToken("the token is too long")
        digest = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        known = self._verified.get(digest)
        if known is not None:
            if known.expires_at <= time.time():
                raise InvalidToken(EXPIRED)
            return known
        payload = self._first_signed(token, self._keys)
        is_own = payload is not None
        if payload is None and self._key_set is not None:
            payload = self._first_signed(token, self._key_set.keys_for(key_id_of(token), may_wait=may_wait))
        if payload is None:
            raise InvalidToken("the token is not valid")
        claims = self._read_claims(payload)
        if is_own and len(token) <= LONGEST_KEPT:
            self._verified[digest] = claims
        return claims

    def _first_signed(self, token: str, keys: Iterable[Key]) -> Any:
        """Return the claims, JSON, if one of `keys` signed the token, else `None`. Raises `InvalidToken`."""
        for key in keys:
            payload = payload_of(token, key)
            if payload is not None:
                try:
                    return json.loads(payload)
                except (ValueError, RecursionError):
                    raise InvalidToken("the token is not valid") from None
        return None

    def _read_claims(self, payload: Any) -> Claims:
        """Return the claims of a token whose signature is right. Raises `InvalidToken`."""
        if not isinstance(payload, dict):
            raise InvalidToken("the token is not valid")
        now = time.time()
        expires_at: Any = payload.get("exp")
        begins_at: Any = payload.get("nbf", 0)
        issued_at: Any = payload.get("iat", 0)
        if not all(map(_is_time, (expires_at, begins_at, issued_at))) or begins_at > now:
            raise InvalidToken("the token is not valid")
        expires_at = self._end_of_life(expires_at, issued_at, now)
        if expires_at <= now:
            raise InvalidToken(EXPIRED)
        audience = payload.get("aud")
        if audience != self._audience and not (isinstance(audience, list) and self._audience in audience):
            raise InvalidToken("the token is for another audience")
        if self._issuer is not None and payload.get("iss") != self._issuer:
            raise InvalidToken("the token is of another issuer")
        subject, token_id = payload.get("sub", ""), payload.get("jti", "")
        if not isinstance(subject, str) or not isinstance(token_id, str):
            raise InvalidToken("the claims 'sub' and 'jti' must be text")
        return Claims(_read_scope(payload.get(CLAIM)), subject, token_id, expires_at, issued_at)

    def _end_of_life(self, expires_at: float, issued_at: float, now: float) -> float:
        """Return when a token no longer counts, so that no revocation has to be kept for longer."""
        if issued_at > now + CLOCKS_DIFFER:
            raise InvalidToken("the token is issued in the future")
        if issued_at > 0:
            return min(expires_at, issued_at + self._lifetime)
        if expires_at > now + self._lifetime:
            raise InvalidToken("the token has no claim 'iat', and expires too late for a token without it")
        return expires_at


def make_scope(
    topics: Iterable[str],
    prefix: str | Iterable[str] | None,
    tag: str | Iterable[str] | None,
    may: str | Iterable[str],
) -> Scope:
    """Return what a token is to cover. Raises `ValueError` for a bad name, an unknown right, or nothing."""
    named = [check_name(topic, "a topic") for topic in topics]
    prefixes = [check_name(each, "a prefix") for each in _several(prefix)]
    tags = [check_name(each, "a tag") for each in _several(tag)]
    rights = frozenset(_several(may))
    if not rights or not rights.issubset(RIGHTS):
        raise ValueError(f"may must be some of {RIGHTS}, not {may!r}")
    if not (named or prefixes or tags):
        raise ValueError("a token is for at least one topic, prefix or tag")
    return Scope(frozenset(named), tuple(sorted(set(prefixes))), frozenset(tags), rights)


def _several(given: str | Iterable[str] | None) -> Iterable[str]:
    return () if given is None else [given] if isinstance(given, str) else given


def _is_time(value: Any) -> bool:
    """Return whether a claim is a time. `json` also reads `Infinity` and `NaN`, and huge numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LATEST < value < LATEST


def _read_scope(covered: Any) -> Scope:
    if not isinstance(covered, dict):
        raise InvalidToken(f"the token has no claim {CLAIM!r}, an object that says what it allows")
    return Scope(
        frozenset(_names(covered, "topics")),
        tuple(_names(covered, "prefixes")),
        frozenset(_names(covered, "tags")),
        frozenset(_names(covered, "may", (READ,))),
    )


def _names(covered: dict[str, Any], name: str, default: Sequence[str] = ()) -> Sequence[str]:
    names: Any = covered.get(name, default)
    # An empty prefix would cover everything.
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) and each for each in names):
        raise InvalidToken(f"in the claim {CLAIM!r}, {name!r} must be a list of names")
    return names
