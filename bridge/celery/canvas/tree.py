"""The tasks of a canvas: reads groups, chains and chords, also nested and as JSON."""

from collections.abc import Callable, Iterator

# `Any` in this module: Celery's signatures hold what the caller puts into them, and their classes share no
# types.
from typing import Any

from celery import chord, group
from celery.canvas import _chain, chunks, maybe_signature
from celery.utils.functional import regen

CANVAS_CLASSES: tuple[Any, ...] = group, _chain, chord

_Lazy: Any = type(regen(iter(())))
"""The type of `tasks` in a group or chord of a generator: a list that grows as it is read."""


def leaves(signature: Any, app: Any = None, *, body: Any = None, unroll: bool = True) -> Iterator[Any]:
    """Yield the tasks of `signature`, which is a signature or its JSON.

    A `chunks` inside another canvas is left out, because its tasks are known only when it runs. `body`
    replaces the body of a chord. Unless `unroll`, only the first two tasks of a generator are read.
    """
    for node in nodes(signature, app, body=body, unroll=unroll):
        if not isinstance(node, CANVAS_CLASSES):
            yield node


def nodes(signature: Any, app: Any = None, *, body: Any = None, unroll: bool = True) -> Iterator[Any]:
    """Yield `signature` and all signatures in it, except a `chunks`."""
    signature = maybe_signature(signature, app=app)
    if signature is None or isinstance(signature, chunks):
        return
    yield signature
    if isinstance(signature, chord):
        yield from _all_nodes(_header(signature), app, unroll)
        yield from nodes(body or signature.body, app, unroll=unroll)
    elif isinstance(signature, CANVAS_CLASSES):
        # Celery has all links of a chain before it sends the first.
        yield from _all_nodes(signature.tasks, app, unroll or isinstance(signature, _chain))


def _all_nodes(signatures: Any, app: Any, unroll: bool) -> Iterator[Any]:
    for signature in signatures if unroll else at_hand(signatures):
        yield from nodes(signature, app, unroll=unroll)


def _header(signature: Any) -> Any:
    header = signature.tasks
    return [header] if isinstance(header, group) else header


def at_hand(signatures: Any) -> list[Any]:
    """Return `signatures`. Of a generator return the first two, which Celery reads before it sends one."""
    if not isinstance(signatures, _Lazy):
        return list(signatures)
    found = []
    for index in range(2):
        try:
            found.append(signatures[index])
        except IndexError:
            break
    return found


def is_open(signature: Any, app: Any = None, *, body: Any = None) -> bool:
    """Whether the number of tasks is unknown until `signature` is started, because of a generator."""
    for node in nodes(signature, app, body=body, unroll=False):
        tasks = node.tasks if isinstance(node, group | chord) else None
        if isinstance(tasks, _Lazy) and len(at_hand(tasks)) > 1:
            return True
    return False


def copied(signature: Any, change: Callable[[Any], None], app: Any = None) -> Any:
    """Return a copy of `signature`, with `change` applied to each signature in it."""
    signature = maybe_signature(signature, app=app)
    if signature is None:
        return None
    copy = signature.clone()
    if isinstance(copy, chord):
        header = signature.tasks
        if isinstance(header, group):
            copy.kwargs["header"] = copied(header, change, app)
        else:
            copy.kwargs["header"] = [copied(task, change, app) for task in header]
        copy.kwargs["body"] = copied(signature.body, change, app)
    elif isinstance(copy, CANVAS_CLASSES):
        copy.tasks = [copied(task, change, app) for task in signature.tasks]
    change(copy)
    return copy


def last(written: Any, app: Any = None, *, in_chain: bool = False) -> Any:
    """Return the signature whose id the result of a canvas has: the task that runs last, or a group."""
    signature: Any = maybe_signature(written, app=app)
    if isinstance(signature, chord):
        return last(signature.body, app)
    if isinstance(signature, _chain):
        tasks = [maybe_signature(task, app=app) for task in signature.tasks]
        filled = [task for task in tasks if not (isinstance(task, CANVAS_CLASSES) and _is_empty(task, app))]
        return last((filled or tasks)[-1], app, in_chain=True) if tasks else signature
    if isinstance(signature, group):
        # Celery replaces a group of one by its member: inside a chain, and where that ends in a group.
        members = at_hand(signature.tasks)
        only = last(members[0], app, in_chain=in_chain) if len(members) == 1 else None
        if only is not None and (in_chain or (isinstance(only, group) and only is not members[0])):
            return only
    return signature


def _is_empty(canvas: Any, app: Any) -> bool:
    return next(leaves(canvas, app, unroll=False), None) is None


def stranded(request: Any) -> Iterator[Any]:
    """Yield the tasks that will never run because the task of `request` has not succeeded."""
    # A chain has the id of its last task, so a canvas and a task may share one.
    seen: set[tuple[bool, str]] = set()
    waiting = [request]
    while waiting:
        holder = waiting.pop()
        after = [*(holder.get("chain") or ()), *filter(None, [holder.get("chord")])]
        for node in _all_nodes(after, None, unroll=True):
            key = isinstance(node, CANVAS_CLASSES), str(node.options.get("task_id"))
            if key in seen:
                continue
            seen.add(key)
            waiting.append(node.options)
            if not isinstance(node, CANVAS_CLASSES) and node.id is not None:
                yield node
