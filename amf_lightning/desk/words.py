"""What a browser says beside a file: a few names with texts and numbers, each looked at before it is believed."""

import json
import re
from collections.abc import Mapping
from typing import Any

from amf_lightning.errors import InputError

_LONGEST = 1000
"""Characters of a text: a reason, a name."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class Words:
    """Values by name, as they came.

    Args:
        values: of any types; a text may stand for a number.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    @classmethod
    def from_json(cls, content: bytes) -> "Words":
        """What a request says.

        Raises:
            InputError: it is no object of JSON.
        """
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InputError(f"This is not valid JSON ({str(error)[:100]}).") from error
        if not isinstance(values, dict):
            raise InputError(f"This is a {type(values).__name__}, not an object of JSON.")
        return cls(values)

    def text(self, name: str) -> str:
        """A text on one line; empty if there is none.

        Raises:
            InputError: it is something else, or long.
        """
        value = self._values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise InputError(f"'{name}' must be a text of {_LONGEST} characters at most.")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"'{name}' holds half a character, which no file can have.") from error
        return _CONTROL.sub(" ", value).strip() if name != "name" else value

    def number(self, name: str) -> int | None:
        """A natural number; None if there is none.

        Raises:
            InputError: it is something else.
        """
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, str) and value.isdecimal() and len(value) < 10:
            return int(value)
        if type(value) is int and 0 <= value < 10**9:  # by type: True is an instance of int
            return value
        raise InputError(f"'{name}' is {str(value)[:30]!r}; it must be a natural number.")

    def required_number(self, name: str) -> int:
        """A natural number that is there.

        Raises:
            InputError: it is not.
        """
        if (value := self.number(name)) is None:
            raise InputError(f"'{name}' is missing; it must be a natural number.")
        return value

    def flag(self, name: str) -> bool:
        """Yes or no.

        Raises:
            InputError: it is neither.
        """
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise InputError(f"'{name}' must be true or false.")
        return value
