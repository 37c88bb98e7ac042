"""Who is at which request now, so that two people do not record the same: said by the browsers, and soon forgotten."""

from collections.abc import Callable
from typing import Any

_FORGOTTEN_AFTER = 6.0
"""Seconds since a browser last said where it is."""
_MOST = 100
"""Browsers that are remembered."""


class Presence:
    """Remembers which request each browser shows. Nothing of it is kept; it binds nobody.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at: dict[str, tuple[float, str, str]] = {}

    def others(self, desk: str, by: str, request: str) -> list[dict[str, Any]]:
        """Notes where a browser is, and says where the others are.

        Args:
            desk: what the browser calls itself, a random word.
            by: who sits there.
            request: its number as text; empty if it shows none.
        """
        now = self._clock()
        self._at.pop(desk, None)  # the last that was heard of stands last
        if desk and len(desk) <= 64 and request.isdecimal() and len(request) < 10:
            self._at[desk] = (now, by[:100], request)
        self._at = {name: at for name, at in list(self._at.items())[-_MOST:] if now - at[0] < _FORGOTTEN_AFTER}
        return sorted(
            ({"by": by, "request": int(number)} for name, (_, by, number) in self._at.items() if name != desk),
            key=lambda other: (other["request"], other["by"]),
        )
