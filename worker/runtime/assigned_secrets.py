"""Masks values that a text assigns to names of secrets, and no other word of it.

For texts that this project did not write: an exchange's messages, a library's exceptions. Known
secrets are masked by their value elsewhere; this finds those nobody told us about, by the name they
are given: in JSON, headers, query strings, forms, ``repr()``, environment files. A word that merely
follows such a name ("sign the agreement", "token XYZ is not listed") is no value of it.
"""

import re
from typing import Final

from worker.runtime.secret import HIDDEN


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Names that hold a secret wherever they are given a value; words of a name, joined in lower case.
_SECRET_NAMES: Final = _words(
    "accesskey accesstoken apikey apisecret apisign authorization authtoken bearer cookie "
    "credential credentials hmac jwt listenkey passphrase passwd password privatekey pwd "
    "refreshtoken secret secretkey sessiontoken signature signingkey"
)
#: Names that are words of everyday texts too: what follows them is a secret only if it is assigned
#: by a ``=`` or in quotes, or looks like one.
_EVERYDAY_NAMES: Final = frozenset({"sig", "sign", "token"})
#: Names whose value may be of several words, up to the end of the line.
_HEADERS: Final = frozenset({"authorization", "cookie"})
#: The most words of a name that make a secret's name together: ``X-MBX-API-Key``.
_LONGEST_NAME: Final = 2
#: What a sentence says about a secret where another text would have its value.
_PROSE: Final = _words(
    "a an and are bad cannot check denied does empty error expected expired failed false for "
    "has in incorrect invalid is it length mismatch missing must no none not null of or "
    "please rejected required should the this to too true undefined unknown was with wrong "
    "your"
)

_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
#: A name with what assigns to it. In order: a form's part; an option of a command; JSON, headers,
#: query strings and the like; a quoted argument (``Secret('...')``); a pair of a tuple
#: (``(b'secret', b'...')``); an XML element.
_NAME: Final = r"(?<![A-Za-z0-9_.-])(?P<name>[A-Za-z0-9_.-]+)"
_ASSIGNMENT: Final = re.compile(
    rf"""\bname=\\*"{_NAME.replace("name", "part")}\\*"[^\n]*\n\s*?\n"""
    r"""|(?<!\S)--(?P<flag>[a-z][a-z-]*)[ \t]+"""
    rf"""|{_NAME}\\*["']?\]?[ \t]{{0,4}}(?P<sign>:=|=>|==?|:|%3[AaDd])\s{{0,4}}"""
    rf"""|{_NAME.replace("name", "call")}\((?=[bru]{{0,2}}\\*["'])"""
    rf"""|\([bru]{{0,2}}["']{_NAME.replace("name", "pair")}["'],\s*(?=[bru]{{0,2}}["'])"""
    rf"""|<{_NAME.replace("name", "tag")}>""",
)
#: What may stand before a value: openings of lists and calls, and a header's scheme.
_OPENING: Final = re.compile(
    r"(?:[A-Za-z_.]+\((?=[bru]{0,2}\\*[\"'])|[\[({]){0,3}"
    r"(?:(?:Bearer|Basic|Digest|Token|Signature|HMAC[A-Za-z0-9-]*)[ ]+(?=\S))?"
)
_QUOTE: Final = re.compile(r"[bru]{0,2}(\\*[\"'`])")
_BARE: Final = re.compile(r"[^\s,;&\"'<>(){}\[\]|\\]+")
_LINE: Final = re.compile(r"[^\r\n\"']+")
_LOOKS_SECRET: Final = re.compile(
    r"[0-9a-f]{8,}|(?=[^\s]*[0-9])(?=[^\s]*[a-z])[A-Za-z0-9+/=_.-]{8,}|[A-Za-z0-9+/=_.-]{20,}"
)
#: Secrets that need no name.
_NAMELESS: Final = (
    (re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]*(?=@)"), HIDDEN),
    (re.compile(r"\b(Bearer|Basic)[ ]+[A-Za-z0-9._~+/=-]{16,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), HIDDEN),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
        HIDDEN,
    ),
)


def mask_assigned(text: str) -> str:
    """Return ``text`` with every value that it assigns to a secret's name replaced."""
    for pattern, shown in _NAMELESS:
        text = pattern.sub(shown, text)
    parts: list[str] = []
    done = position = 0
    while (found := _ASSIGNMENT.search(text, position)) is not None:
        position = found.end()
        name = _kind_of(next(filter(None, _names_in(found))))
        if name is None:
            continue  # behind the name: what it is given may hold names of its own
        start, end = _value(text, found, name)
        if start < end and not _is_hidden(text[start:end]):
            parts += text[done:start], HIDDEN
            done = position = end
    return "".join([*parts, text[done:]]) if parts else text


def _names_in(found: re.Match[str]) -> tuple[str | None, ...]:
    return tuple(found[group] for group in ("name", "call", "pair", "flag", "part", "tag"))


def _kind_of(name: str) -> str | None:
    """Return which secret a name holds, None where it holds none."""
    words = [word.lower() for word in _WORD.findall(name)]
    for count in range(1, min(_LONGEST_NAME, len(words)) + 1):
        tail = "".join(words[-count:])
        if tail in _SECRET_NAMES:
            return tail
    if words and words[-1] in _EVERYDAY_NAMES:
        # With a word of its own before it (access_token, API-Sign) it is no everyday word.
        return words[-1] if len(words) == 1 else "secret"
    return None


def _value(text: str, found: re.Match[str], name: str) -> tuple[int, int]:
    """Return where the value begins and ends; an empty span where the name is given none."""
    begin = found.end()
    opening = _OPENING.match(text, begin)
    at = opening.end() if opening is not None else begin
    quote = _QUOTE.match(text, at)
    if quote is not None:
        return quote.end(), _closing(text, quote.end(), quote[1])
    if found["tag"] or found["part"]:
        end = re.compile(r"[^<\r\n]*").match(text, begin)
        return (begin, end.end()) if end is not None else (begin, begin)
    bare = _BARE.match(text, at)
    if bare is None:
        return at, at
    value, end_at = bare[0], bare.end()
    if found["sign"] and found["sign"].startswith("%"):
        value = re.split("%26", value, maxsplit=1, flags=re.IGNORECASE)[0]
        end_at = at + len(value)
    if value.strip(".!?").lower() in _PROSE:
        return at, at
    is_assigned = found["sign"] not in {":", None}
    if name in _EVERYDAY_NAMES and not is_assigned and not _LOOKS_SECRET.fullmatch(value):
        return at, at
    if name in _HEADERS:
        line = _LINE.match(text, at)
        end_at = line.end() if line is not None else end_at
    return at, end_at


def _closing(text: str, start: int, quote: str) -> int:
    """Return where the value that ``quote`` opened ends: at the next such quote, or the text's end.

    A quote with a backslash more before it than the opening one is part of the value.
    """
    at = start
    while (at := text.find(quote, at)) >= 0:
        before = at
        while before > start and text[before - 1] == "\\":
            before -= 1
        if (at - before) % 2 == 0:
            return at
        at += len(quote)
    return len(text)


def _is_hidden(value: str) -> bool:
    return not value.strip("*")
