r"""Text from outside made safe to show: what moves a cursor, hides or reorders text is escaped.

These are the control characters (C0, DEL, C1), those that set the direction of text, have no width
or end a line, lone surrogates, and whatever else Unicode does not count as printable.
"""

#: As a number: bytes look for bytes only after an exception, which says that those are no number.
_DEL = 0x7F


def printable(text: str) -> str:
    r"""Return ``text`` with ``\x1b``, ``\u202e`` or ``\U000e0001`` for what must not be shown."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(ord(c)) for c in text)


def printable_json(document: bytes) -> bytes:
    r"""Return a JSON document with ``\u009b`` for what must not be shown; it decodes to the same.

    Args:
        document: without white space between its parts, where an escape would have no meaning.
    """
    if document.isascii() and _DEL not in document:
        return document  # an encoder has escaped the rest
    text = document.decode(errors="replace")
    return "".join(c if c.isprintable() else json_escape(c) for c in text).encode()


def json_escape(character: str) -> str:
    r"""Return a character as JSON escapes it, as ``\u202e``; two of them above U+FFFF."""
    units = character.encode("utf-16-be", errors="surrogatepass").hex()
    return "".join(rf"\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _escaped(code: int) -> str:
    if code < 0x100:
        return rf"\x{code:02x}"
    return rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"
