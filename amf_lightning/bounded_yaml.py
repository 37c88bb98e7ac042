"""Looks through a text of YAML before anything is made of it: how much it is, how deep, and whether a key stands twice.

PyYAML takes the last of two equal keys, calls itself for each level until the process dies, and follows aliases, of
which nine lines can make more than fits into memory. What is looked at here are the parser's events, one after another.
"""

from dataclasses import dataclass, field
from typing import Any

import yaml

LONGEST = 2**20
"""Characters."""
DEEPEST = 64
"""Mappings and sequences within each other."""
MOST = 100_000
"""Values, with those behind aliases as often as they are named."""


class RefusedYAML(yaml.YAMLError):
    """A text that is YAML, but too much of it, or says one thing twice."""


@dataclass
class _Collection:
    """A mapping or sequence that is being read."""

    keys: dict[str, int] | None
    """Of a mapping, its keys so far, with the line of each; None for a sequence."""
    anchor: str | None
    values: int = 1
    """Values in it so far, itself included."""
    before_key: bool = field(init=False)
    """Whether the next value is a key."""

    def __post_init__(self) -> None:
        self.before_key = self.keys is not None


def check_yaml(text: str) -> None:
    """Makes sure that a text can be read at all and says what it says once.

    Raises:
        RefusedYAML: it is too long, too deep, or becomes too much; a key stands twice in one mapping.
        yaml.YAMLError: it is not YAML.
    """
    if len(text) > LONGEST:
        raise RefusedYAML(f"it has {len(text)} characters; at most {LONGEST} are read.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    reader = _Reader()
    for event in yaml.parse(text, Loader=loader):
        reader.take(event)


class _Reader:
    """Counts and compares, event by event."""

    def __init__(self) -> None:
        self._open: list[_Collection] = []
        self._anchored: dict[str, int] = {}
        """Values behind each anchor that is complete."""

    def take(self, event: yaml.Event) -> None:
        line = 0 if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            if len(self._open) == DEEPEST:
                raise RefusedYAML(f"line {line} is more than {DEEPEST} levels deep.")
            keys: dict[str, int] | None = {} if isinstance(event, yaml.MappingStartEvent) else None
            self._open.append(_Collection(keys, event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            if done.anchor is not None:
                self._anchored[done.anchor] = done.values
            self._add(done.values, None, line)
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor is not None:
                self._anchored[event.anchor] = 1
            self._add(1, event.value, line)
        elif isinstance(event, yaml.AliasEvent):
            if any(each.anchor == event.anchor for each in self._open):
                raise RefusedYAML(f"line {line} names '*{event.anchor}' within itself.")
            self._add(self._anchored.get(str(event.anchor), 1), None, line)

    def _add(self, values: int, scalar: Any, line: int) -> None:
        """A value of the collection that is open."""
        if not self._open:
            return
        within = self._open[-1]
        within.values += values
        if within.values > MOST:
            raise RefusedYAML(f"with its aliases it holds more than {MOST} values at line {line}.")
        if within.keys is None:
            return
        if within.before_key and scalar is not None:
            if scalar in within.keys:
                raise RefusedYAML(f"the key '{scalar}' stands twice, in lines {within.keys[scalar]} and {line}.")
            within.keys[scalar] = line
        within.before_key = not within.before_key
