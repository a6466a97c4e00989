"""Who wants to be told of something."""

from __future__ import annotations

import inspect
import logging
from typing import Callable, Dict, Generic, TypeVar

T = TypeVar("T")

Unsubscribe = Callable[[], None]

_log = logging.getLogger("tidings_client")


class Listeners(Generic[T]):
    def __init__(self) -> None:
        # By a key of its own, so that the same listener added twice is told twice and removed once.
        self._listeners: Dict[object, Callable[[T], object]] = {}

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, listener: Callable[[T], object]) -> Unsubscribe:
        if inspect.iscoroutinefunction(listener):
            raise TypeError("a listener is a plain function, called at once; what awaits reads a room by `async for`")
        key = object()
        self._listeners[key] = listener

        def unsubscribe() -> None:
            self._listeners.pop(key, None)

        return unsubscribe

    def tell(self, value: T) -> None:
        """Tells everyone. A listener that raises is logged, and costs nobody else the news."""
        for listener in list(self._listeners.values()):
            try:
                listener(value)
            except Exception:
                _log.exception("a listener raised")
