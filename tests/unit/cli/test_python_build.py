"""Which builds of Python count as slow."""

from typing import Any

import pytest

from worker.cli.python_build import slowness

_DEBIAN = (
    "'--enable-shared' '--prefix=/usr' '--libdir=/usr/lib/x86_64-linux-gnu' '--enable-ipv6' "
    "'--with-computed-gotos' '--with-system-expat' 'MKDIR_P=/bin/mkdir -p' "
    "'CC=x86_64-linux-gnu-gcc' 'CFLAGS=-g   -fstack-protector-strong -Wformat '"
)
_STANDALONE = (
    "'--build=x86_64-unknown-linux-gnu' '--host=x86_64-unknown-linux-gnu' '--prefix=/install' "
    "'--with-openssl=/tools/deps' '--with-system-expat' '--without-ensurepip' '--enable-shared' "
    "'--enable-optimizations' '--with-lto' 'CC=clang' 'CFLAGS=-fPIC' "
)
_PYTHON_ORG = "'-C' '--enable-framework' '--enable-universalsdk=/' '--with-lto' {}"
_PYENV = (
    "'--prefix=/home/me/.pyenv/versions/3.11.7' '--enable-shared' 'LDFLAGS=-L/home/me/.pyenv' "
    "'CPPFLAGS=-I/home/me/.pyenv/include'"
)
_RELEASE = {"OPT": "-DNDEBUG -g -fwrapv -O3 -Wall", "PY_CFLAGS": "-DNDEBUG -g -fwrapv -O3 -Wall"}


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"CONFIG_ARGS": _DEBIAN, "OPT": "-DNDEBUG -g -fwrapv -O2"}, id="Debian"),
        pytest.param({"CONFIG_ARGS": _STANDALONE} | _RELEASE, id="python-build-standalone"),
        pytest.param(
            {"CONFIG_ARGS": _PYTHON_ORG.format("'--enable-optimizations'")} | _RELEASE,
            id="python.org",
        ),
        pytest.param(
            {"CONFIG_ARGS": "'--build=x86_64-linux-gnu' '--enable-optimizations' '--with-lto'"},
            id="official container image",
        ),
        pytest.param({"CONFIG_ARGS": "'--with-lto=thin'"} | _RELEASE, id="link-time only"),
        pytest.param({"CONFIG_ARGS": "'CFLAGS=-O3 -fprofile-use'"} | _RELEASE, id="profile flags"),
        pytest.param({"CONFIG_ARGS": "'CFLAGS=-O0 -g' '--prefix=/usr'", "PY_CFLAGS": "-O0 -O2"},
                     id="a later level counts"),
        pytest.param({"CONFIG_ARGS": None}, id="Windows"),
        pytest.param({}, id="PyPy"),
    ],
)  # fmt: skip
def test_an_optimised_or_unknown_build_is_not_complained_of(variables: dict[str, Any]) -> None:
    """Whoever uses a build that is as fast as it can be is not told otherwise."""
    assert slowness(variables) == ""


@pytest.mark.parametrize(
    "arguments",
    [
        _PYENV,
        "'--prefix=/opt/python'",
        "'--prefix=/usr/local'",
        "'--enable-optimizations' '--disable-optimizations'",
        "'--enable-optimizations=no' '--without-lto'",
        "'LDFLAGS=-L/opt/it's'",
    ],
)
def test_a_plain_build_is_slow(arguments: str) -> None:
    """Without profile-guided and link-time optimisation: the reason says what to use instead."""
    reason = slowness({"CONFIG_ARGS": arguments} | _RELEASE)
    assert "--enable-optimizations" in reason
    assert "10 to 30 %" in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    "variables",
    [
        {"CONFIG_ARGS": _STANDALONE, "Py_DEBUG": 1},
        {"CONFIG_ARGS": _DEBIAN, "OPT": "-g -Og -Wall"},
        {"CONFIG_ARGS": _STANDALONE, "OPT": "-O3 -Wall", "PY_CFLAGS": "-O3 -Wall -O0"},
    ],
)
def test_a_debug_build_is_slow_however_it_was_configured(variables: dict[str, Any]) -> None:
    """Assertions in the interpreter, or a compiler that was told not to optimise."""
    assert "debug build" in slowness(variables)


def test_the_running_python_is_looked_at_by_default() -> None:
    """The build variables need not be passed, and the reason is one line."""
    assert "\n" not in slowness()
