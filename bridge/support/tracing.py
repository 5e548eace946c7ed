"""Spans of OpenTelemetry, if the application uses it. Names and attributes follow its messaging conventions.

The bridge never imports OpenTelemetry first: a process that has not loaded it has nothing that could record a
span. Spans are made only as parts of a trace that exists, and never for a message that is no state.
"""

import re
import sys
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bridge.support.validate import INTERNAL

# `Any` in this module: headers of a message hold any value.

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Tracer

T = TypeVar("T")

SYSTEM = "celery-event-bridge"
TRACEPARENT = "traceparent"
_SAMPLED = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01")


class Headers(Protocol):
    """What holds the headers of a task's message: the message, or the request of the task."""

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return the value of `key`, or `default`."""


_NOTHING = nullcontext()

_tracer: "Tracer | None" = None


def tracer() -> "Tracer | None":
    """Return what makes the spans of the bridge, `None` if the process has not loaded OpenTelemetry."""
    global _tracer
    if _tracer is None and (trace := sys.modules.get("opentelemetry.trace")) is not None:
        # A proxy until the application has set its provider.
        _tracer = trace.get_tracer(SYSTEM)
    return _tracer


def attributes(operation: str, kind: str, topic: str) -> dict[str, str]:
    """Return the attributes of a span: what is done, the kind of that in the conventions, and the topic."""
    found = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }
    if (template := template_of(topic)) != topic:
        found["messaging.destination.template"] = template
    return found


def template_of(topic: str) -> str:
    """Return a name for topics of this kind: the name of a span must not have the id of a task."""
    prefix, colon, _ = topic.partition(":")
    return f"{prefix}:{{id}}" if colon else topic


def current() -> "Context | None":
    """Return the current context if it is within a trace."""
    from opentelemetry import context, trace

    return context.get_current() if trace.get_current_span().get_span_context().is_valid else None


def context_in(headers: Headers) -> "Context | None":
    """Return the context that the headers of a task's message carry, in the format of the application."""
    from opentelemetry import propagate, trace

    nested = headers.get("headers")
    more = nested if isinstance(nested, dict) else {}
    carrier = {
        field: value
        for field in (*propagate.get_global_textmap().fields, TRACEPARENT)
        if isinstance(value := headers.get(field) or more.get(field), str)
    }
    found = propagate.extract(carrier) if carrier else None
    valid = found is not None and trace.get_current_span(found).get_span_context().is_valid
    return found if valid else None


def inject(headers: MutableMapping[str, Any]) -> None:
    """Write the current context into the headers of a task's message, if nothing else has done so."""
    if tracer() is None:
        return
    from opentelemetry import propagate

    if current() is not None and not any(name in headers for name in propagate.get_global_textmap().fields):
        propagate.inject(headers)


def publish_state(topic: str, headers: Headers, state: str) -> str | None:
    """Make the span of a state that is published in the background; return its `traceparent` for readers.

    It is part of the current trace, or of the one that `headers` carry. Without any, nothing is made. Where
    nobody records the span, as in the main process of a worker, readers get that trace all the same.
    """
    made_by = tracer()
    if made_by is None:
        given = headers.get(TRACEPARENT)
        return given if isinstance(given, str) and _SAMPLED.fullmatch(given) else None
    parent = current() or context_in(headers)
    if parent is None:
        return None
    span = made_by.start_span(f"publish {template_of(topic)}", parent, _kind("PRODUCER"))
    if span.is_recording():
        span.set_attributes({**attributes("publish", "send", topic), "celery.state": state})
        span.end()
    # A span that is not recorded has the context of its parent.
    return traceparent_of(span) if span.get_span_context().trace_flags.sampled else None


def in_current_trace(work: Callable[[], T]) -> Callable[[], T]:
    """Return `work` for another thread: what it does there is a part of the trace of the caller."""
    return work if tracer() is None else partial(copy_context().run, work)


def publishing(topic: str) -> AbstractContextManager[object]:
    """Return the span of a message that is published within it, as a part of the current trace."""
    made_by = tracer()
    if made_by is None or topic.startswith(INTERNAL) or (parent := current()) is None:
        return _NOTHING
    name, about = f"publish {template_of(topic)}", attributes("publish", "send", topic)
    return made_by.start_as_current_span(name, parent, _kind("PRODUCER"), about)


def replay(topics: "frozenset[str]") -> "Span | None":
    """Begin the span of a stream that opens, as a part of the current trace; end it when it has caught up.

    Returns `None` if nobody records it.
    """
    made_by = tracer()
    if made_by is None or not topics or (parent := current()) is None:
        return None
    topic = min(topics)
    span = made_by.start_span(f"replay {template_of(topic)}", parent, _kind("CONSUMER"))
    if not span.is_recording():
        return None
    span.set_attributes({**attributes("replay", "receive", topic), "bridge.topics": len(topics)})
    return span


def link(span: "Span", traceparent: str) -> None:
    """Link a span to the trace of what it has received."""
    from opentelemetry import trace

    context = _context_of(traceparent)
    if context is not None:
        span.add_link(trace.get_current_span(context).get_span_context())


def deliver_end(topic: str, traceparent: str, viewers: int) -> None:
    """Make the span of the end of a task that was sent to its viewers, as a part of the trace of the task."""
    made_by = tracer()
    context = None if made_by is None else _context_of(traceparent)
    if made_by is None or context is None:
        return
    span = made_by.start_span(f"deliver {template_of(topic)}", context, _kind("CONSUMER"))
    if span.is_recording():
        span.set_attributes({**attributes("deliver", "process", topic), "bridge.viewers": viewers})
    span.end()


def traceparent_of(span: "Span") -> str:
    """Return the context of a span as in the W3C header `traceparent`."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _context_of(traceparent: str) -> "Context | None":
    """Return the context that a `traceparent` names. Anyone may have written it."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent})
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def _kind(name: str) -> "SpanKind":
    from opentelemetry.trace import SpanKind

    return SpanKind[name]
