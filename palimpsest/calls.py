"""Methods that are written once, and wait in `Palimpsest` or are awaited in `AsyncPalimpsest`.

A resource is a class whose methods return a description of what to do. `call`, `steps`, `pages` and `stream`
make methods of them that do it, with the transport of the client that the resource belongs to.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

from palimpsest.requests import Page, Request, Stream
from palimpsest.transports import AsyncTransport, Steps, SyncTransport

P = ParamSpec("P")
T = TypeVar("T")


class SyncResource:
    """A resource of `Palimpsest`."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport


class AsyncResource:
    """A resource of `AsyncPalimpsest`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport


class _Method(Generic[P, T]):
    """A function of a resource that describes what to do. A subclass says how that is done."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Any]) -> None:
        self._describe = describe
        functools.update_wrapper(cast(Any, self), describe)

    def _bind(self, instance: object, do: Callable[[Any], Any]) -> Any:
        @functools.wraps(self._describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return do(self._describe(instance, *args, **kwargs))

        parameters = list(inspect.signature(self._describe).parameters.values())[1:]
        cast(Any, method).__signature__ = inspect.Signature(parameters)
        return method


class call(_Method[P, T]):  # noqa: N801
    """A method of one request: it returns the result, or an awaitable of it."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Request[T]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: SyncResource, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: AsyncResource, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self._bind(instance, instance._transport.send)


class steps(_Method[P, T]):  # noqa: N801
    """A method of several requests: it returns the result, or an awaitable of it."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: SyncResource, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: AsyncResource, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self._bind(instance, instance._transport.run)


class stream(_Method[P, T]):  # noqa: N801
    """A method that follows events: it returns an iterator over them as they come, or an async iterator."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Stream[T]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: SyncResource, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: AsyncResource, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self._bind(instance, instance._transport.follow)


class pages(_Method[P, T]):  # noqa: N801
    """A method that lists: it returns an iterator over the items of all pages, or an async iterator."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Request[Page[T]]]) -> None:
        super().__init__(describe)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: SyncResource, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: AsyncResource, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self._bind(instance, instance._transport.iterate)
