"""Numbers of things in words."""


def count_of(number: int, singular: str, plural: str = "") -> str:
    """Format a number of things: ``1 close``, ``2 closes``, ``0 entries``."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
