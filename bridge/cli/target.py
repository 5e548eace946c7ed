"""Where a command works: the channel that its first argument, an application or the environment names."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

# `Any` in this module: the options of `bridge.connect` and of a command have several types.
from typing import TYPE_CHECKING, Any

import click

from bridge.channel.channel import Channel
from bridge.channel.factory import connect
from bridge.support.environment import URL_VARIABLE, read_variable

if TYPE_CHECKING:  # Celery imports this module at each of its commands: it takes as little time as it can.
    from bridge.streams.access.tokens import Tokens

_FIND = "bridge.cli.find"
"""The key in the context of click under which an application's `Find` is."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command works."""

    url: str = field(repr=False)
    """As for `bridge.connect`. It may contain a password."""
    origin: str
    """Where the URL comes from, in words."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Other arguments of `bridge.connect`, such as the namespace."""
    app: Any = None
    """The Celery app, if one is known."""
    tokens: "Tokens | None" = field(default=None, repr=False)
    """Makes tokens, if the application has keys for them."""

    @property
    def namespace(self) -> str:
        """The namespace of the channel."""
        return str(self.options.get("namespace", "bridge"))

    def open(self) -> Channel:
        """Return the channel. Raises `ConfigurationError`."""
        if self.url.startswith("memory:"):
            click.echo("bridge: memory:// lives in one process, so nothing of others is seen here", err=True)
        return connect(self.url, **{**self.options, "json_logs": False})  # the log is for people here


Find = Callable[[], Target]
"""Finds the bridge of an application. Raises `ConfigurationError` if it has none."""


def find_with(context: click.Context, find: Find) -> None:
    """Have the commands below `context` take the bridge of an application unless a URL is given."""
    context.meta[_FIND] = find


def find_application(context: click.Context) -> Target | None:
    """Return the bridge of the application that the command belongs to, `None` if it belongs to none."""
    find: Find | None = context.meta.get(_FIND)
    return None if find is None else find()


def find_target(context: click.Context, url: str | None, namespace: str | None = None) -> Target:
    """Return where a command works. Raises `click.UsageError` if nothing says it."""
    if url is not None:
        target = Target(url, "the command line")
    elif (application := find_application(context)) is not None:
        target = application
    elif (found := read_variable(URL_VARIABLE)) is not None:
        target = Target(found, URL_VARIABLE)
    else:
        raise click.UsageError(
            "no URL: give one as the first argument, such as redis://localhost:6379/0, "
            f"or set {URL_VARIABLE}",
            context,
        )
    if namespace is None:
        return target
    return replace(target, options={**target.options, "namespace": namespace})


def takes_url(
    arguments: str = "", *, least: int = 0, most: int | None = 0
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate the function of a command that takes a URL, which may be left out, and other arguments.

    The function gets the `Target`, then `least` to `most` further arguments. The first argument is the URL if
    it has a scheme, or if nothing else says where to work.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @click.pass_context
        def command(
            context: click.Context, /, words: tuple[str, ...], namespace: str | None, **options: Any
        ) -> None:
            url, given = _split(context, words)
            if len(given) < least or (most is not None and len(given) > most):
                raise click.UsageError(f"expected [URL] {arguments}".strip(), context)
            function(find_target(context, url, namespace), *given, **options)

        # Before the decorators of click, which add to what is copied.
        functools.update_wrapper(command, function)
        named = click.option(
            "--namespace",
            envvar="BRIDGE_NAMESPACE",
            show_envvar=True,
            metavar="NAME",
            help="The namespace, if the application has one.",
        )(command)
        return click.argument("words", nargs=-1, metavar=f"[URL] {arguments}".strip())(named)

    return decorate


def _split(context: click.Context, words: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return the URL among the arguments, if there is one, and the others."""
    known = _FIND in context.meta or read_variable(URL_VARIABLE) is not None
    if words and ("://" in words[0] or not known):
        return words[0], words[1:]
    return None, words
