"""Tells a Python that was built without optimisation from one that is as fast as it can be.

``./configure`` builds without profile-guided optimisation unless it is given
``--enable-optimizations`` ("Configure Python", section "Performance options", in Python's
documentation); pyenv and hand-made builds often are. The same code then takes 10 to 30 % longer.
"""

import shlex
import sysconfig
from collections.abc import Mapping
from typing import Any, Final

#: Where distributions install. Debian runs the profile-guided build itself and leaves no trace of
#: it in the variables; a system's own package counts as optimised.
_SYSTEM_PREFIXES: Final = ("/usr", "/usr/")
_COSTS: Final = "every signal takes 10 to 30 % more processor time than it has to"


def slowness(variables: Mapping[str, Any] | None = None) -> str:
    """Return why this Python is slower than it could be, or "" if it is not known to be.

    Args:
        variables: build variables by name, as ``sysconfig.get_config_vars()`` returns them; by
            default those of the running Python.
    """
    known = sysconfig.get_config_vars() if variables is None else variables
    compiler = _words(known.get("PY_CFLAGS") or known.get("CFLAGS"))
    levels = [word for word in [*_words(known.get("OPT")), *compiler] if word.startswith("-O")]
    if known.get("Py_DEBUG") or levels[-1:] in (["-O0"], ["-Og"]):
        return f"Python is a debug build: {_COSTS}, or more; use a release build"
    configured = _words(known.get("CONFIG_ARGS"))
    if not configured:  # Windows, PyPy: nothing says how they were built
        return ""
    if _value(configured, "--prefix") in _SYSTEM_PREFIXES:
        return ""
    if _is_on(configured, "--enable-optimizations", "--disable-optimizations"):
        return ""
    if _is_on(configured, "--with-lto", "--without-lto"):
        return ""
    flags = " ".join([*configured, *compiler])
    if "-fprofile-use" in flags or "-fprofile-instr-use" in flags or "-flto" in flags:
        return ""
    return (
        f"Python was built without --enable-optimizations: {_COSTS}; use a build with it, such as "
        "the system's, python.org's or uv's"
    )


def _words(text: object) -> list[str]:
    """Return the arguments of a command line, as far as it is one."""
    if not isinstance(text, str):
        return []
    try:
        return shlex.split(text)
    except ValueError:  # a quotation mark without its second
        return text.split()


def _value(arguments: list[str], name: str) -> str:
    """Return the value of the last ``name=value``, or ""."""
    values = [word.partition("=")[2] for word in arguments if word.startswith(f"{name}=")]
    return values[-1] if values else ""


def _is_on(arguments: list[str], on: str, off: str) -> bool:
    """Return whether the last mention of an option of ``./configure`` switches it on."""
    is_on = False
    for word in arguments:
        name, _, value = word.partition("=")
        if name == on:
            is_on = value != "no"
        elif name == off:
            is_on = False
    return is_on
