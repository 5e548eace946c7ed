"""What is shown of a URL in logs and errors."""

import pytest

from bridge.support.urls import without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("rediss://user:pass@h/2?ssl_cert_reqs=none", "rediss://h/2"),
        ("rediss://user:pass@host/0?password=pass", "rediss://host/0"),
        ("redis://:pass@host:6379", "redis://host:6379"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("redis+cluster://u:pass@one:1,two:2", "redis+cluster://one:1,two:2"),
        ("redis+sentinel://u:pass@a:1,b:2/main/0", "redis+sentinel://a:1,b:2/main/0"),
        ("postgresql://u:pass@h/db?options=x", "postgresql://h/db"),
        ("postgresql://u:pass@host/name?sslpassword=pass", "postgresql://host/name"),
        ("postgresql:///name", "postgresql:///name"),
        ("sqlite:////var/lib/bridge.db", "sqlite:////var/lib/bridge.db"),
        ("sqlite:////var/bridge.db?mode=rw", "sqlite:////var/bridge.db"),
        ("memory://", "memory://"),
        ("memory://name", "memory://name"),
        # A password that is not escaped, but does not reach beyond the hosts.
        ("redis://:pass@word@h/0", "redis://h/0"),
        ("redis://:pa@ss@host:6379/0", "redis://host:6379/0"),
    ],
)
def test_hosts_and_path_are_shown_without_password(url: str, shown: str) -> None:
    """User, password and parameters are left out."""
    assert without_secrets(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p%2Fa#ss@h/0",
        "redis://:p?ass@h/0",
        "redis://:pa/ss@host:6379/0",
        "redis://:pa?ss@host:6379/0",
        "redis://:pa#ss@host:6379/0",
        "redis://h/0?password=pa@ss",
        "redis://:pass",
        "redis://pass word@/0",
        "redis://user:pass@/0",
        "sqlite+pysqlcipher://:pass@/var/bridge.db",
    ],
)
def test_only_the_scheme_is_shown_where_the_rest_may_hold_a_password(url: str) -> None:
    """Nothing but the scheme is certain."""
    assert without_secrets(url) == f"{url.partition(':')[0]}://..."
