"""Tells requests of the own site from those that a page of another site makes (CSRF). A pure function."""

from bridge.streams.refusal import Refusal

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Requests with these methods change nothing."""


def refuse_other_sites(method: str, *, sec_fetch_site: str | None, origin: str | None, host: str) -> None:
    """Raise `Refusal` (403) if a page of another site makes a request that changes something.

    The arguments are the method and the headers `Sec-Fetch-Site`, `Origin` and `Host`. Browsers send the
    first or the second; programs send neither, and no page can make a browser leave out both.
    """
    if method not in SAFE_METHODS and not _is_of_this_site(sec_fetch_site, origin, host):
        raise Refusal(
            403,
            "Requests from other sites are refused. If this request comes from this site, the proxy must "
            "forward the Host header of the browser.",
        )


def _is_of_this_site(sec_fetch_site: str | None, origin: str | None, host: str) -> bool:
    if sec_fetch_site is not None:
        return sec_fetch_site in ("same-origin", "none")
    # Over plain HTTP, browsers send only Origin to other machines. The scheme is not compared, because it
    # differs behind a proxy that terminates TLS.
    return origin is None or (host != "" and origin.partition("://")[2].lower() == host.lower())
