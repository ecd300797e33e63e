"""``redis.url``: what each address says, and one sentence for each that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.client import SignalProducer
from worker.config.redis_url import Address, RedisUrl, Topology, parse
from worker.runtime.errors import ConfigError


def a_url(*addresses: Address, **facts: object) -> RedisUrl:
    return RedisUrl(**{"topology": Topology.STANDALONE, "addresses": addresses} | facts)  # type: ignore[arg-type]


SENTINEL, CLUSTER = {"topology": Topology.SENTINEL}, {"topology": Topology.CLUSTER}
GOOD = [
    ("redis://127.0.0.1:6379/0", a_url(Address("127.0.0.1", 6379))),
    ("redis://localhost", a_url(Address("localhost", 6379))),
    ("redis://localhost/", a_url(Address("localhost", 6379))),
    ("redis://[::1]:7000/3", a_url(Address("::1", 7000), db=3)),
    ("rediss://user:p%40ss@redis.example:6380/15?ssl_cert_reqs=required",
     a_url(Address("redis.example", 6380), db=15, tls=True, username="user", password="p@ss")),
    ("redis://:pa/s@s#@h:1/2", a_url(Address("h", 1), db=2, password="pa/s@s#")),
    ("redis://bob@h", a_url(Address("h"), username="bob")),
    ("unix:///run/redis.sock?db=2", a_url(Address(path="/run/redis.sock"), db=2)),
    ("unix:///run/r@1.sock", a_url(Address(path="/run/r@1.sock"))),
    ("unix://user:pw@/run/redis.sock",
     a_url(Address(path="/run/redis.sock"), username="user", password="pw")),
    ("redis+sentinel://a:1,b:2,c/mymaster/3",
     a_url(Address("a", 1), Address("b", 2), Address("c"), master="mymaster", db=3, **SENTINEL)),
    ("redis+sentinel://:pw@a/mymaster",
     a_url(Address("a"), master="mymaster", password="pw", **SENTINEL)),
    ("redis+cluster://a:1,b:2", a_url(Address("a", 1), Address("b", 2), **CLUSTER)),
    ("redis+cluster://a:1/0", a_url(Address("a", 1), **CLUSTER)),
    ("rediss+sentinel://a:1/m/0", a_url(Address("a", 1), master="m", tls=True, **SENTINEL)),
    ("redis://host?db=5", a_url(Address("host"), db=5)),
    ("redis://host/?db=5", a_url(Address("host"), db=5)),
    ("redis://host/5?db=5", a_url(Address("host"), db=5)),
    ("rediss://host?db=5&ssl_check_hostname=True", a_url(Address("host"), db=5, tls=True)),
    ("redis://host?username=bob&password=p%40s%26s",
     a_url(Address("host"), username="bob", password="p@s&s")),
    ("redis://bob:pw@host?password=pw&protocol=2",
     a_url(Address("host"), username="bob", password="pw")),
    ("unix:///run/redis.sock?password=pw", a_url(Address(path="/run/redis.sock"), password="pw")),
    ("redis+sentinel://a:1/m?db=3", a_url(Address("a", 1), master="m", db=3, **SENTINEL)),
    ("redis+cluster://a:1?db=0", a_url(Address("a", 1), **CLUSTER)),
    ("redis://[::1]", a_url(Address("::1"))),
    ("redis://[2001:db8::7]:6380?db=1", a_url(Address("2001:db8::7", 6380), db=1)),
    ("redis://host?", a_url(Address("host"))),
    ("rediss+cluster://a:1", a_url(Address("a", 1), tls=True, **CLUSTER)),
]  # fmt: skip


@pytest.mark.parametrize(("url", "said"), GOOD)
def test_an_address_says_what_is_meant(url: str, said: RedisUrl) -> None:
    """Where the servers are, how the primary is found, and who signs in."""
    assert parse(url) == said


BAD = [
    ("", "must begin with"),
    ("localhost:6379", "must begin with"),
    ("http://h", "must begin with"),
    ("REDIS://h", "must begin with"),
    ("unix+cluster:///x", "must begin with"),
    ("redis://", "host or host:port"),
    ("redis://h:port", "host or host:port"),
    ("redis://h:0", "port from 1 to 65535"),
    ("redis://h:70000", "port from 1 to 65535"),
    ("redis://a:1,b:2", "host or host:port"),
    ("redis://h/zero", "one whole number"),
    ("redis://h/0/1", "one whole number"),
    ("unix://x", "absolute path"),
    ("unix://run/redis.sock", "absolute path"),
    ("unix:///run/redis.sock?db=zero", "one whole number"),
    ("redis+sentinel://a:1", "master's name"),
    ("redis+sentinel://a:1,/m", "host or host:port"),
    ("rediss+sentinel://a:1", "master's name"),
    ("redis+cluster://h:1/3", "database 0 only"),
    ("rediss+cluster://a:1/3", "database 0 only"),
    ("redis://host/4?db=5", "one whole number"),
    ("redis://host?db=", "one whole number"),
    ("redis://host?db=five", "one whole number"),
    ("redis://host?db=-1", "one whole number"),
    ("redis://host?db=5&db=5", "db= is given twice"),
    ("redis+cluster://host?db=5", "database 0 only"),
    ("redis://host?DB=5", "DB= is not followed"),
    ("redis://host?protocol=3", "protocol= can only be 2"),
    ("redis://host?socket_timeout=5", "socket_timeout= is not followed"),
    ("redis://host?max_connections=5", "max_connections= is not followed"),
    ("redis+sentinel://a:1/m?sentinel_password=x", "sentinel_password= is not followed"),
    ("unix:///run/redis.sock?timeout=5", "timeout= is not followed"),
    ("rediss://host?ssl_cert_reqs=none", "ssl_cert_reqs= can only be required"),
    ("rediss://host?ssl_check_hostname=false", "ssl_check_hostname= can only be true"),
    ("redis://host?ssl_cert_reqs=required", "rediss://"),
    ("rediss://host?ssl_ca_certs=/a.pem", "set redis.tls_ca_file"),
    ("rediss://host?ssl_certfile=/a.pem", "set redis.tls_cert_file"),
    ("rediss://host?ssl_keyfile=/a.pem", "set redis.tls_key_file"),
    ("redis://bob:pw@host?username=eve", "another one as .username="),
    ("redis://:pw@host?password=other", "another one as .password="),
    ("redis://:pa?ss@host/0", "must be written as %3F"),
    ("embedded", "inside one worker"),
]


@pytest.mark.parametrize(("url", "problem"), BAD)
def test_what_is_no_address_is_refused_with_a_sentence(url: str, problem: str) -> None:
    """The sentence says which part is wrong; a program that uses the client reads the same one."""
    with pytest.raises(ConfigError, match=problem) as caught:
        parse(url)
    assert caught.value.key == "redis.url"
    with pytest.raises(ConfigError) as refused:
        SignalProducer(url)
    assert str(refused.value) == str(caught.value)


@given(st.text(max_size=40), st.sampled_from(["", "redis://", "unix://", "redis+sentinel://"]))
def test_no_url_crashes_the_reader_or_is_shown(rest: str, scheme: str) -> None:
    """Any text is either read or refused with a ConfigError that does not repeat it."""
    marker = "hunter2hunter2"
    try:
        parse(f"{scheme}{marker}{rest}")
    except ConfigError as error:
        shown = str(error)
    else:
        shown = ""
    assert marker not in shown


def test_a_password_is_not_printed() -> None:
    """What was read may end in a log or a traceback."""
    assert repr(parse("rediss://user:hunter2@h:1/2")) == "<RedisUrl standalone h:1/2 over TLS>"
