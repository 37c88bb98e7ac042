"""Ways in which a file can be damaged, each drawn from a generator."""

import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

Damage = Callable[[Path, random.Random], str]
"""Damages a file, and says how."""


def truncated(path: Path, draw: random.Random) -> str:
    content = path.read_bytes()
    keep = draw.choice([0, draw.randrange(max(1, len(content))), max(0, len(content) - 1)])
    path.write_bytes(content[:keep])
    return f"cut to {keep} of {len(content)} bytes"


def flipped(path: Path, draw: random.Random) -> str:
    content = bytearray(path.read_bytes())
    if not content:
        return truncated(path, draw)
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} of {len(content)} flipped"


def overwritten(path: Path, draw: random.Random) -> str:
    content = bytearray(path.read_bytes())
    place, length = draw.randrange(len(content) + 1), draw.choice([1, 8, 512])
    content[place : place + length] = draw.choice([bytes(length), draw.randbytes(length)])
    path.write_bytes(content)
    return f"{length} bytes from {place} on overwritten"


def longer(path: Path, draw: random.Random) -> str:
    more = draw.choice([b"\0", b"\n{}\n", draw.randbytes(100)])
    path.write_bytes(path.read_bytes() + more)
    return f"{len(more)} bytes behind its end"


def twice(path: Path, draw: random.Random) -> str:
    path.write_bytes(2 * path.read_bytes())
    return "its content twice"


def edited(path: Path, draw: random.Random) -> str:
    """One number of a text becomes another value, or a line is missing or there twice."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except UnicodeDecodeError:
        return flipped(path, draw)
    if not lines:
        return longer(path, draw)
    number, way = draw.randrange(len(lines)), draw.choice(["missing", "there twice", "empty", "swapped"])
    line = lines[number]
    lines[number] = {"missing": "", "there twice": 2 * line, "empty": "\n", "swapped": line[::-1]}[way]
    path.write_text("".join(lines))
    return f"line {number + 1} {way}"


def foreign(path: Path, draw: random.Random) -> str:
    """A file of the right kind with something else in it, or of another kind."""
    kinds = OF_KIND.get(path.suffix, ()) if draw.random() < 0.7 else draw.choice([*OF_KIND.values()])
    content = draw.choice(list(kinds) or [b"mine"])
    path.write_bytes(content() if callable(content) else content)
    return f"something else in its place: {path.read_bytes()[:40]!r}"


def missing(path: Path, draw: random.Random) -> str:
    path.unlink()
    return "missing"


def folder(path: Path, draw: random.Random) -> str:
    path.unlink()
    path.mkdir()
    if draw.random() < 0.5:
        (path / "mine").write_text("mine")
    return "a folder in its place"


def link(path: Path, draw: random.Random) -> str:
    target = draw.choice(["nowhere", path.name, "."])
    path.unlink()
    path.symlink_to(target)
    return f"a link to {target} in its place"


def _database(*statements: str) -> Callable[[], bytes]:
    def make() -> bytes:
        connection = sqlite3.connect(":memory:")
        for statement in ("CREATE TABLE other (x)", *statements):
            connection.execute(statement)
        connection.commit()
        return connection.serialize()

    return make


def _checkpoint(content: object) -> Callable[[], bytes]:
    import io

    def make() -> bytes:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    return make


JSON = [b"[]", b"null", b"{}", b"1", b'"text"', b'{"a": NaN}', b"[[[[", b'{"tasks": [], "mean": 1, "trained_on": "x"}']
OF_KIND: dict[str, tuple[bytes | Callable[[], bytes], ...]] = {
    ".json": tuple(JSON),
    ".jsonl": (*JSON, json.dumps({"demonstration": "x"}).encode() + b"\n"),
    ".yaml": (b"true", b"[1]", b"a: &a [*a]", b"a: b: c", b"model: []\n", b"\xff\xfe\x00", b"- x\n- y\n", b"data: 1\n"),
    ".csv": (b"a,b\n1,2\n", b"\xff\x00\n", b"demonstrations,task,return,success,score\nx,y,z,1,2\n", b"\n\n"),
    ".sqlite": (b"text", _database(), _database("PRAGMA user_version = 99")),
    ".ckpt": (b"text", _checkpoint({}), _checkpoint([1]), _checkpoint({"suite": {}, "state_dict": {}})),
    ".safetensors": (b"text", save({"x": torch.zeros(3)}), save({"x": torch.zeros(3)}, {"policy": "{}"}), b"\xff" * 16),
    ".gz": (b"text", b"\x1f\x8b\x08\x00"),
}
DAMAGES: tuple[Damage, ...] = (
    truncated,
    flipped,
    flipped,
    flipped,
    overwritten,
    longer,
    twice,
    edited,
    foreign,
    foreign,
    missing,
    folder,
    link,
)
CHANGES_NUMBERS = (flipped, overwritten, edited)
"""Those that may leave a file whole, with another number in it."""
