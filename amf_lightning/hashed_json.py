"""Mappings of JSON that carry the SHA-256 of what they say: a digit that was changed on the disk is noticed.

The hash is of the content, not of the bytes: who formats it anew changes nothing. What has none is people's, or of a
version that wrote none, and is believed.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

KEY = "sha256"


def hashed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its hash, which stands last."""
    return {**content, KEY: digest(content)}


def unhashed(content: Any) -> dict[str, Any]:
    """What was read, without its hash.

    Raises:
        ValueError: it is no mapping, or not what was written.
    """
    if not isinstance(content, dict):
        raise ValueError("it is no mapping of names to values")
    said = {key: value for key, value in content.items() if key != KEY}
    if KEY in content and content[KEY] != digest(said):
        raise ValueError(f"it is not what was written: its {KEY} is of something else")
    return said


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of what is read back of the content, in hexadecimal digits."""
    return sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()
