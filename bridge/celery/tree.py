"""The tasks that a canvas is made of."""

from collections.abc import Callable, Iterator
from typing import Any

from celery import chord, group
from celery.canvas import _chain, chunks, maybe_signature

Canvas: tuple[Any, ...] = group, _chain, chord


def leaves(signature: Any) -> Iterator[Any]:
    """Yield the tasks of `signature`, a signature or its JSON, as they are written.

    A `chunks` inside another canvas is left out: which tasks it becomes is known only when its turn comes.
    """
    for node in nodes(signature):
        if not isinstance(node, Canvas):
            yield node


def nodes(signature: Any) -> Iterator[Any]:
    """Yield `signature` and all it is made of, except a `chunks`."""
    signature = maybe_signature(signature)
    if signature is None or isinstance(signature, chunks):
        return
    yield signature
    if isinstance(signature, chord):
        yield from _all_nodes(_header(signature))
        yield from nodes(signature.body)
    elif isinstance(signature, Canvas):
        yield from _all_nodes(signature.tasks)


def _all_nodes(signatures: Any) -> Iterator[Any]:
    for signature in signatures:
        yield from nodes(signature)


def _header(signature: Any) -> Any:
    header = signature.tasks
    return [header] if isinstance(header, group) else header


def copied(signature: Any, change: Callable[[Any], None]) -> Any:
    """Return a copy of `signature` in which `change` was applied to each node, the original untouched."""
    signature = maybe_signature(signature)
    if signature is None:
        return None
    copy = signature.clone()
    if isinstance(copy, chord):
        header = signature.tasks
        if isinstance(header, group):
            copy.kwargs["header"] = copied(header, change)
        else:
            copy.kwargs["header"] = [copied(task, change) for task in header]
        copy.kwargs["body"] = copied(signature.body, change)
    elif isinstance(copy, Canvas):
        copy.tasks = [copied(task, change) for task in signature.tasks]
    change(copy)
    return copy


def last(written: Any, *, in_chain: bool = False) -> Any:
    """Return the part of a canvas whose id its result has: the one that Celery runs last, or a group."""
    signature: Any = maybe_signature(written)
    if isinstance(signature, chord):
        return last(signature.body)
    if isinstance(signature, _chain):
        tasks = [maybe_signature(task) for task in signature.tasks]
        filled = [
            task for task in tasks if not (isinstance(task, Canvas) and next(leaves(task), None) is None)
        ]
        return last((filled or tasks)[-1], in_chain=True) if tasks else signature
    if isinstance(signature, group):
        # Celery takes a group of one for that one within a chain, and for the group at the end of a chain.
        members: list[Any] = [*signature.tasks]
        only = last(members[0], in_chain=in_chain) if len(members) == 1 else None
        if only is not None and (in_chain or (isinstance(only, group) and only is not members[0])):
            return only
    return signature


def stranded(request: Any) -> Iterator[Any]:
    """Yield the tasks that will never run, now that the task of `request` has not succeeded."""
    # A chain has the id of its last task, so a canvas and a task may share one.
    seen: set[tuple[bool, str]] = set()
    waiting = [request]
    while waiting:
        holder = waiting.pop()
        after = [*(holder.get("chain") or ()), *filter(None, [holder.get("chord")])]
        for node in _all_nodes(after):
            key = isinstance(node, Canvas), str(node.options.get("task_id"))
            if key in seen:
                continue
            seen.add(key)
            waiting.append(node.options)
            if not isinstance(node, Canvas) and node.id is not None:
                yield node
