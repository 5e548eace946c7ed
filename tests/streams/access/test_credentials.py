"""Where the token of a request is looked for."""

import pytest

from bridge.streams.access.credentials import DEFAULT_COOKIE, find_token, has_token_in_query

COOKIE = DEFAULT_COOKIE


@pytest.mark.parametrize(
    ("authorization", "cookies", "query", "expected"),
    [
        (None, None, "", None),
        ("Bearer abc", None, "", "abc"),
        ("bearer  abc ", None, "", "abc"),
        ("Bearer", None, "", ""),
        ("Bearer abc", f"{COOKIE}=other", "token=third", "abc"),
        ("Bearer", f"{COOKIE}=other", "token=third", ""),
        ("Basic YTpi", None, "", None),
        ("Basic YTpi", f"{COOKIE}=abc", "", "abc"),
        ("Bearerabc", None, "", None),
        (None, f"a=1; {COOKIE}=abc; b=2", "token=third", "abc"),
        (None, f'{COOKIE}="abc"', "", "abc"),
        (None, f"{COOKIE}=first;{COOKIE}=second", "", "first"),
        (None, f"{COOKIE}=", "token=third", ""),
        (None, f"{COOKIE}2=abc; a={COOKIE}=x; {COOKIE}", "", None),
        (None, None, "token=abc", "abc"),
        (None, None, "a=1&token=%61bc&token=x", "abc"),
        (None, None, "mytoken=abc", None),
        (None, None, "token=", ""),
    ],
)
def test_the_header_is_before_the_cookie_and_the_cookie_before_the_query(
    authorization: str | None, cookies: str | None, query: str, expected: str | None
) -> None:
    """An empty token is one too, and is not replaced by another."""
    found = find_token(
        authorization=authorization, cookies=cookies, query=query, cookie=COOKIE, in_query=True
    )
    assert found == expected


def test_the_query_counts_only_where_it_is_allowed() -> None:
    """URLs stand in logs and in histories."""
    assert (
        find_token(authorization=None, cookies=None, query="token=abc", cookie=COOKIE, in_query=False) is None
    )


def test_a_token_in_the_query_is_known_by_its_form() -> None:
    """Other parameters may be called `token` too."""
    for query in ("token=a.b.c", "a=1&token=a.b.c", "token=x&token=a.b.c"):
        assert has_token_in_query(query)
    for query in ("", "token=", "token=abc", "token=a.b", "csrf_token=a.b.c", "topic=a.b.c", "a=token=a.b.c"):
        assert not has_token_in_query(query)
