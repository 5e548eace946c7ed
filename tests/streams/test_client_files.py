"""The files of the browser client as HTTP answers."""

import pytest

from bridge.errors import ConfigurationError
from bridge.streams.client_files import FILES, FileAnswer, check_path, client_file


def answer(path: str, if_none_match: str | None = None) -> FileAnswer:
    found = client_file(path, if_none_match, version="1.2.0rc1")
    assert found is not None
    return found


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_file_is_a_script(name: str) -> None:
    """A file is answered as a script whose type browsers do not guess."""
    status, headers, body = answer(name)
    assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert body.startswith(b"// ")


def test_only_the_path_with_this_version_is_kept_for_long() -> None:
    """Without a version, or with that of another deployment, a browser asks again soon."""
    assert "immutable" in answer("1.2.0rc1/bridge.js").headers["Cache-Control"]
    for path in ("bridge.js", "1.1/bridge.js"):
        assert answer(path).headers["Cache-Control"] == "public, max-age=300"
        assert answer(path).body == answer("1.2.0rc1/bridge.js").body


def test_a_browser_that_has_a_file_gets_no_body() -> None:
    """The entity tag may stand among others, and be weak."""
    etag = answer("bridge.js").headers["ETag"]
    for sent in (etag, f'"other", W/{etag}'):
        found = answer("bridge.js", sent)
        assert (found.status, found.body, found.headers["ETag"]) == (304, b"", etag)
    for sent in ("", "x", '"other"', etag.strip('"')):
        assert answer("bridge.js", sent).status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "bridge.py", "package.json", "fold.d.ts", "../errors.py", "..%2ferrors.py", "/bridge.js"),
        *("../static/bridge.js", "1.2/../bridge.js", "1.2/3.4/bridge.js", "./bridge.js", "bridge.js/"),
        *("x/bridge.js", "1.2.0rc1\n/bridge.js", "bridge.js\0", "BRIDGE.JS", "\\bridge.js", "1.2.0rc1/"),
    ],
)
def test_nothing_else_is_served(path: str) -> None:
    """A path that is not exactly a file, or a version and a file, names nothing."""
    assert client_file(path, None, version="1.2.0rc1") is None


def test_the_prefix_is_a_path() -> None:
    """A slash at its end does not matter; `None` serves nothing."""
    assert check_path("/bridge", "X") == check_path("/bridge/", "X") == "/bridge"
    assert check_path("/a/b-c", "X") == "/a/b-c"
    assert check_path(None, "X") is None
    for wrong in ("", "/", "bridge", "/a b", "/<x>", "//host", 7, True):
        with pytest.raises(ConfigurationError, match="BRIDGE_STATIC_PATH must be a path"):
            check_path(wrong, "BRIDGE_STATIC_PATH")
