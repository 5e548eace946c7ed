"""Canvases of every shape."""

from collections.abc import Callable
from typing import Any

from celery import chain, chord, group


def some(tasks: Any, count: int = 3) -> Any:
    return group(tasks.add.s(n, n) for n in range(count))


# A canvas, and how many parts it has.
SHAPES: dict[str, tuple[Callable[[Any], Any], int]] = {
    "group": (some, 3),
    "group of one": (lambda t: group(t.add.s(1, 1)), 1),
    "chain": (lambda t: chain(t.add.s(1, 1), t.add.s(2), t.add.s(3)), 3),
    "chord": (lambda t: chord(some(t), t.total.s()), 4),
    "group then task": (lambda t: some(t) | t.total.s(), 4),
    "chord then chain": (lambda t: chord([t.add.s(1, 1)], t.total.s() | t.add.s(1)), 3),
    "chunks": (lambda t: t.add.chunks(((n, n) for n in range(20)), 5), 4),
    "starmap within": (lambda t: chain(t.add.si(1, 1), t.add.starmap([(1, 1), (2, 2)])), 2),
    "group, task, group, task": (
        lambda t: chain(some(t), t.total.s(), group(t.add.s(1), t.add.s(2)), t.total.s(), t.add.s(1)),
        8,
    ),
    "group at the end": (lambda t: chain(t.add.s(1, 1), group(t.add.s(1), t.add.s(2))), 3),
    "group of one at the end": (lambda t: chain(t.add.s(1, 1), group(t.add.s(1))), 2),
    "chains within a group": (
        lambda t: group(
            chain(t.add.s(1, 1), t.add.s(2)), chain(t.add.s(1, 1), group(t.add.s(2), t.add.s(3)))
        ),
        5,
    ),
    "a chain with a group at its end within a group": (
        lambda t: group(chain(t.add.s(1, 1), group(t.add.s(2), t.add.s(3)))),
        3,
    ),
    "chord within a group within a chain": (
        lambda t: chain(
            t.add.s(1, 1), group(t.add.s(1), chord([t.add.s(2), t.add.s(3)], t.total.s())), t.total.s()
        ),
        6,
    ),
    "groups one after another": (lambda t: some(t) | group(t.total.s(), t.total.s()) | t.total.s(), 6),
    "a task that is replaced": (lambda t: group(t.swap.s(1), t.add.s(1, 1)), 2),
    "replaced by a chain": (lambda t: chord([t.swap_for_chain.s(1), t.add.s(1, 1)], t.total.s()), 3),
    "replaced by a chain with a chord": (lambda t: chain(t.add.s(1, 1), t.swap_for_chord.s(), t.add.s(1)), 3),
    "replaced by a group": (lambda t: chain(t.add.s(1, 1), t.swap_for_group.s(), t.total.s()), 3),
    "a task that tries again": (lambda t: group(t.second_time_lucky.s(), t.halves.s(1)), 2),
}
