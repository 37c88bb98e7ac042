"""What a soak consists of: cases that may be lost, each repeatable by its name and the seed."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from soak.world import World


@dataclass
class Bench:
    """Where a case works, what it draws from, and what it counts."""

    world: World
    folder: Path
    """Its own and empty; kept if the case is lost."""
    draw: random.Random
    """Keyed by the seed of the soak and the name of the case."""
    kills: int = 0
    """Signals that ended a process."""
    inputs: int = 0
    """Damaged, fuzzed or missing things that a command was given."""
    notes: list[str] = field(default_factory=list)
    """What was done, in words, for who looks at a lost case."""

    def note(self, text: str) -> None:
        """Keeps a line about what is done now."""
        self.notes.append(text)
        with (self.folder / "notes.txt").open("a") as file:
            file.write(f"{text}\n")


@dataclass(frozen=True)
class Kind:
    """A kind of case: any number of cases that differ in what they draw."""

    name: str
    run: Callable[[Bench], None]
    """Raises Lost, or any error, if the case is lost."""
    prepare: Callable[[World], object] | None = None
    """Makes what all its cases share; not counted as time of a case."""
    share: int = 1
    """Cases of this kind in each turn."""
    kills: bool = False
    """Whether it sends signals."""
    inputs: bool = False
    """Whether it gives bad inputs."""
