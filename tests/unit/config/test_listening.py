"""``http.host``: every usual way to write an address, and a sentence for what is none."""

import pytest

from worker.config.listening import listening_host
from worker.runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("host", "bare"),
    [
        ("", ""),
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("::", "::"),
        ("[::]", "::"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("0:0:0:0:0:0:0:1", "0:0:0:0:0:0:0:1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
    ],
)
def test_a_host_is_what_the_socket_library_takes(host: str, bare: str) -> None:
    """Brackets belong to URLs."""
    assert listening_host(host) == bare


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:9108", "[::1]:9108", "localhost:80", "[::1", "::1]", "[]", "[host]", "[1.2.3.4]"],
)
def test_what_is_no_host_is_refused_with_its_key(host: str) -> None:
    """A port, half a bracket, a name in brackets."""
    with pytest.raises(ConfigError, match=r"http\.port") as caught:
        listening_host(host)
    assert caught.value.key == "http.host"
