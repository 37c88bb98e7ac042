"""The one thing that may not happen."""


class Lost(Exception):  # noqa: N818 - what the table calls it
    """Something was lost, changed in silence, asked twice, hung, or ended without saying why."""


def check(holds: bool, otherwise: str) -> None:
    """Raises Lost with what is the matter unless something holds."""
    if not holds:
        raise Lost(otherwise)
