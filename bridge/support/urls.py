"""What may be shown of a URL in logs and errors."""

import re

_HOST = r"(\[[0-9a-fA-F:.%]+\]|[\w.-]+)(:\d+)?"
_HOSTS = re.compile(f"{_HOST}(,{_HOST})*")


def without_secrets(url: str) -> str:
    """Return the scheme, the hosts and the path of `url`, without user, password and parameters.

    If a part of a password that is not escaped may be in the hosts or in the path, they are left out.
    """
    scheme, _, rest = url.partition("://")
    place = re.split("[?#]", rest, maxsplit=1)[0]
    authority, slash, path = place.partition("/")
    hosts = authority.rpartition("@")[2]
    is_certain = _HOSTS.fullmatch(hosts) if authority else True
    # An @ after the hosts may be the end of a password that is not escaped.
    if not is_certain or "@" in rest[len(authority) :]:
        return f"{scheme}://..."
    return f"{scheme}://{hosts}{slash}{path}"
