"""What a document tells a person to run in Redis, the user that it names may run."""

import re
from collections.abc import Iterator
from typing import Final

import pytest
import redis

from tests.deploy import acl
from tests.deploy.redis_servers import KINDS, REDIS, Server, make_users, serving
from tests.deploy.test_redis_acl import TESTER
from tests.deploy.tools import DEPLOY, ROOT

DOCUMENTS: Final = (
    *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md")),
    *sorted(DEPLOY.rglob("*.sh")), *sorted(DEPLOY.rglob("*.conf")), *sorted(DEPLOY.rglob("*.yaml")),
)  # fmt: skip
#: Documents of the past, and those that only tell of measurements.
NOT_TELLING: Final = frozenset({"CHANGELOG.md", "performance.md"})
#: Mentions of a command that nobody is told to run.
MENTIONS: Final = frozenset({"SCRIPT LOAD", "CLIENT", "CLIENT KILL", "KEYS"})


@pytest.fixture(params=KINDS, scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with the project's users, and one for the tests."""
    file = make_users(tmp_path_factory.mktemp("acl"))
    file.chmod(0o600)
    file.write_text(file.read_text() + TESTER)
    (file.parent / "redis_tester").write_text("tester")
    with serving(request.param, file) as running:
        yield running


def told(text: str, guarded: frozenset[str]) -> Iterator[tuple[str, str]]:
    """The commands that a text tells a person to run, each with the user it names, or without one.

    Args:
        text: of a document.
        guarded: the commands that not everybody may run, with subcommands as ``acl|load``.
    """
    for name, words in re.findall(r"redis-cli\b[^\n`]*?--user (\w+) ([^\n`|&]+)", text):
        yield words.strip(), name
    spans = list(re.finditer(r"`([A-Z][A-Z]+(?: [^`\n]+)?)`", text))
    for number, span in enumerate(spans):
        if _command(span[1]) in guarded and span[1] not in MENTIONS:
            yield span[1], _user_after(text, spans, number)


def _user_after(text: str, spans: list[re.Match[str]], number: int) -> str:
    """The user named after a command, or after those that follow it in a row."""
    while True:
        rest = text[spans[number].end() : spans[number].end() + 40]
        named = re.match(r"\s+(?:\| )?(?:as )?`([a-z]+)`", rest)
        if named:
            return named[1]
        row = re.match(r"(?:,|,? and|,? or)\s+`[A-Z]", rest)
        if row is None or number + 1 == len(spans):
            return ""
        number += 1


def _command(words: str) -> str:
    """The command's name as the server lists it."""
    first, _, rest = words.lower().partition(" ")
    second = rest.split(" ")[0]
    containers = {"acl", "client", "config", "script", "function", "slowlog", "latency", "memory",
                  "debug", "cluster", "module"}  # fmt: skip
    return f"{first}|{second}" if first in containers else first


@pytest.fixture(scope="module")
def guarded(server: Server) -> frozenset[str]:
    """What Redis itself calls dangerous, or for administrators, and what looks into memory."""
    tester = server.client("tester")
    found = {"memory|usage", "script|kill", "function|kill"}
    for category in ("dangerous", "admin"):
        found |= {str(each) for each in tester.acl_cat(category)}
    return frozenset(found)


def test_whoever_is_named_may_run_it(server: Server, guarded: frozenset[str]) -> None:
    """Each command has a user beside it, and the server lets that user run it."""
    tester = server.client("tester")
    refused, asked = [], set()
    for document in DOCUMENTS:
        if document.name in NOT_TELLING:
            continue
        for words, user in told(document.read_text(), guarded):
            where = f"{document.relative_to(ROOT)}: {words}"
            if not user:
                refused.append(f"{where}: no user is named")
                continue
            line = [words.split()[0], *words.split()[1:]]
            try:
                answer = tester.execute_command("ACL DRYRUN", user, *line)
            except redis.ResponseError as error:
                answer = str(error).encode()
            if answer != b"OK":
                refused.append(f"{where}: {user}: {answer.decode()}")
            asked.add((user, _command(words)))
    assert refused == []
    assert len(asked) > 10, "the documents are read"


def test_admin_may_what_is_asked_of_it_and_nothing_else(
    server: Server, guarded: frozenset[str]
) -> None:
    """Every right of `admin` is one that a document, rotate.sh or `mend-stream` makes use of."""
    texts = [path.read_text() for path in DOCUMENTS if path.name not in NOT_TELLING]
    asked = {
        _command(words) for text in texts for words, user in told(text, guarded) if user == "admin"
    }
    script = (REDIS / "rotate.sh").read_text()
    asked |= {_command(words) for words in re.findall(r"as admin \S+ \S+ ([A-Z]+ [A-Z]+)", script)}
    granted = acl.all_commands(acl.parse((REDIS / "users.acl.template").read_text())["admin"])
    assert asked == acl.BY_HAND
    mending = acl.script_commands(acl.SCRIPTS["admin"]) | acl.RUNNING | {"script|load"}
    assert granted - acl.CONNECTION == asked | mending


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`ACL LOG` as `admin`: who", ("ACL LOG", "admin")),
        ("`ACL LOG` on Redis", ("ACL LOG", "")),
        ("| `CLIENT LIST` | `admin` |", ("CLIENT LIST", "admin")),
        ("`BGSAVE` as an administrator", ("BGSAVE", "")),
        ("`ACL LOG`, `BGSAVE` as `reader`", ("ACL LOG", "reader")),
        ("redis-cli --user reader SCRIPT KILL\n", ("SCRIPT KILL", "reader")),
    ],
)
def test_a_text_that_names_nobody_is_found(text: str, found: tuple[str, str]) -> None:
    """A command without a user, and one for a user that may not, do not pass."""
    guarded = frozenset({"acl|log", "client|list", "bgsave"})
    assert next(told(text, guarded)) == found


def test_a_mistaken_user_is_refused(server: Server) -> None:
    """The server's own word counts: `operator` may not do what `admin` may."""
    tester = server.client("tester")
    for user, is_allowed in (("admin", True), ("operator", False), ("worker", False)):
        answer = tester.execute_command("ACL DRYRUN", user, "ACL", "LOAD")
        assert (answer == b"OK") is is_allowed
