"""Whether ops are recorded: no_grad, enable_grad, set_grad_enabled, inference_mode, each a context and a decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from glassgrad import _core as core

__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]

F = TypeVar("F", bound=Callable[..., Any])


def is_grad_enabled() -> bool:
    """Whether ops are being recorded in this thread.

    >>> with gg.no_grad():
    ...     gg.is_grad_enabled()
    False
    """
    return bool(core.is_grad_enabled())


class _Mode:
    mode: bool

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(core.set_grad_enabled(self.mode))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        core.set_grad_enabled(self._before.pop())

    def __call__(self, function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]


def _bare(cls: Any, function: Any = None) -> Any:
    """Lets `@no_grad` stand without parentheses."""
    self = object.__new__(cls)
    if function is None:
        return self
    self.__init__()
    return self(function)


class no_grad(_Mode):
    """Ops inside are not recorded; as a decorator, those of the function.

    >>> x = gg.ones(2, requires_grad=True)
    >>> with gg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    mode = False

    if not TYPE_CHECKING:
        __new__ = _bare


class enable_grad(_Mode):
    """Ops inside are recorded, even within no_grad.

    >>> with gg.no_grad(), gg.enable_grad():
    ...     gg.is_grad_enabled()
    True
    """

    mode = True

    if not TYPE_CHECKING:
        __new__ = _bare


class inference_mode(_Mode):
    """Like no_grad (mode=False leaves recording on).

    >>> with gg.inference_mode():
    ...     gg.is_grad_enabled()
    False
    """

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = not mode


class set_grad_enabled(_Mode):
    """Turns recording on or off from here on; as a context, until its end.

    >>> with gg.set_grad_enabled(False):
    ...     gg.is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = mode
        self._before = [core.set_grad_enabled(mode)]

    def __enter__(self) -> None:
        core.set_grad_enabled(self.mode)

    def __call__(self, function: F) -> F:
        core.set_grad_enabled(self._before.pop())
        self._before = []
        mode = self.mode

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with set_grad_enabled(mode):
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]
