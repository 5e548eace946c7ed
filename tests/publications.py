"""Publications of tests."""

from collections.abc import Iterable
from dataclasses import replace

from bridge.model.publication import Publication


def repeated(publications: Iterable[Publication]) -> list[Publication]:
    """The same messages, published once more because an answer was lost."""
    return [replace(publication, repeated=True) for publication in publications]
