"""Tokens: signed texts (JWT, RFC 7519) that allow their holder to read topics or to cancel tasks.

The claims are `aud`, `exp`, `iat`, `jti`, where they are given `sub` and `iss`, and `bridge`, an object:

    {"topics": ["orders"], "prefixes": ["task:"], "tags": ["user:42"], "may": ["read", "cancel"]}

Each member may be missing; without `may` the token allows reading. Any issuer of JWTs can make such tokens.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# `Any` in this module: claims are JSON, unchecked until `_read_claims`.
from typing import Any, NamedTuple

from bridge.errors import ConfigurationError
from bridge.streams.access.jwks import KeySet
from bridge.streams.access.keys import Key
from bridge.support.tokens import new_token
from bridge.support.validate import check_name, check_positive
from bridge.tasks.events import tag_topic

READ, CANCEL = "read", "cancel"
RIGHTS = (READ, CANCEL)

LONGEST_TOKEN = 8 * 1024
"""Characters of a token. A longer one is refused before it is parsed."""

CLAIM = "bridge"
"""The claim that says what a token allows."""


class InvalidToken(Exception):
    """A token does not count: it is malformed, forged, expired, or for somebody else. Never quotes it."""


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
    expires_at: int
    """In seconds since the epoch."""


class Tokens:
    """Makes and verifies the tokens of one application. Threads may share it."""

    def __init__(
        self, keys: Sequence[Key], key_set: KeySet | None, *, audience: str, issuer: str | None = None
    ) -> None:
        """`keys` and `key_set`, of which at least one is given, verify. The first of `keys` signs."""
        from jwt import PyJWT

        self._keys = keys
        self._key_set = key_set
        self._audience = audience
        self._issuer = issuer
        required = ["exp", "aud"] + (["iss"] if issuer is not None else [])
        # The clock of another machine may be ahead, and `iat` protects from nothing that `nbf` does not.
        self._jwt = PyJWT({"require": required, "verify_iat": False})

    # Making.

    def sign(self, scope: Scope, *, expires: float, subject: str | None) -> str:
        """Return a token for `scope`, which `make_scope` returned, for so many seconds.

        Raises `ConfigurationError` without a key that signs, and `ValueError` for a bad argument or a token
        longer than `LONGEST_TOKEN`.
        """
        check_positive(unit="seconds", error=ValueError, expires=expires)
        if not math.isfinite(expires):
            raise ValueError(f"expires must be a number of seconds, not {expires!r}")
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
        payload = self._payload(scope, math.ceil(time.time() + expires), subject)
        token: str = self._jwt.encode(payload, key.signing, algorithm=key.algorithm)
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
            "iat": int(time.time()),
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
        payload = self._first_signed(token, self._keys)
        if payload is None and self._key_set is not None:
            payload = self._first_signed(token, self._key_set.keys_for(_key_id(token), may_wait=may_wait))
        if payload is None:
            raise InvalidToken("the token is not valid")
        return _read_claims(payload)

    def _first_signed(self, token: str, keys: Iterable[Key]) -> dict[str, Any] | None:
        """Return the claims if one of `keys` signed the token. Raises `InvalidToken`."""
        import jwt

        for key in keys:
            try:
                return self._jwt.decode(
                    token,
                    key.verifying,
                    algorithms=[key.algorithm],  # that of the key, never that of the token
                    audience=self._audience,
                    issuer=self._issuer,
                )
            except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
                continue
            except jwt.ExpiredSignatureError:
                raise InvalidToken("the token has expired") from None
            except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
                raise InvalidToken("the token is for another audience, or of another issuer") from None
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
                raise InvalidToken("the token is not valid") from None
        return None


def _key_id(token: str) -> str | None:
    """Return the `kid` of a token that nobody has verified yet."""
    import jwt

    try:
        found = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None


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


def _read_claims(payload: dict[str, Any]) -> Claims:
    """Return the claims of a token whose signature, time, audience and issuer are right."""
    covered = payload.get(CLAIM)
    if not isinstance(covered, dict):
        raise InvalidToken(f"the token has no claim {CLAIM!r}, an object that says what it allows")
    scope = Scope(
        frozenset(_names(covered, "topics")),
        tuple(_names(covered, "prefixes")),
        frozenset(_names(covered, "tags")),
        frozenset(_names(covered, "may", (READ,))),
    )
    subject, token_id = payload.get("sub") or "", payload.get("jti") or ""
    if not isinstance(subject, str) or not isinstance(token_id, str):
        raise InvalidToken("the claims 'sub' and 'jti' must be text")
    try:
        return Claims(scope, subject, token_id, int(payload["exp"]))
    except (ValueError, OverflowError):  # PyJWT has read it before
        raise InvalidToken("the token is not valid") from None


def _names(covered: dict[str, Any], name: str, default: Sequence[str] = ()) -> Sequence[str]:
    names: Any = covered.get(name, default)
    # An empty prefix would cover everything.
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) and each for each in names):
        raise InvalidToken(f"in the claim {CLAIM!r}, {name!r} must be a list of names")
    return names
