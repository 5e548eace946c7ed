"""Text of tasks and messages for a terminal: it cannot move the cursor, change colours or hide itself."""

import re

_JOINERS = "\u200c\u200d"
"""Not printable for Python, but some scripts and emoji need them, and they do no harm."""


def plain(text: str) -> str:
    """Return `text` in one line, with each character that is not printable as an escape such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in _JOINERS else _escape(character)
        for character in text
    )


def plain_lines(text: str) -> list[str]:
    """Return the lines of `text`, each as `plain` does."""
    return [plain(line) for line in re.split(r"\r\n|\n|\r", text)]


def plain_json(text: str) -> str:
    """Return JSON `text` with those characters as escapes of JSON, which change nothing in its meaning."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in _JOINERS else _json_escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
