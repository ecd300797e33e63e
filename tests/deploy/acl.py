"""What the ACL file must grant, worked out from the scripts and from the calls in the code."""

import ast
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from tests.deploy.tools import ROOT
from worker.ledger.script_source import NAMES, source

WORKER: Final = ROOT / "worker"
#: Which scripts each user's calls run.
SCRIPTS: Final[Mapping[str, frozenset[str]]] = {
    "worker": frozenset(NAMES) - {"decide", "mend_stream", "replay"},
    "reader": frozenset(),
    "operator": frozenset({"control", "decide", "replay"}),
    "admin": frozenset({"announce", "mend_stream"}),
}
#: Where the commands stand that are sent as such.
MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "worker": ("ledger/scripts.py",),
    "outside": ("ledger/access.py", "ledger/inspection.py", "ledger/operator_calls.py",
                "ledger/operator_writes.py", "ledger/streams.py",
                "operator/dead_letters.py", "operator/history.py"),
}  # fmt: skip
#: Sent by the client library's methods, which a look at string constants does not find.
BY_METHOD: Final[Mapping[str, frozenset[str]]] = {
    "worker": frozenset(),
    "reader": frozenset({"multi", "exec", "info"}),
    "operator": frozenset({"multi", "exec", "info", "watch", "unwatch"}),
}
RUNNING: Final = frozenset({"evalsha"})
#: What a person does as `admin` by hand; test_redis_commands.py finds each in the documents.
BY_HAND: Final = frozenset(
    {
        "acl|load", "acl|log", "bgsave", "client|kill", "client|list", "config|set",
        "function|kill", "lastsave", "latency|latest", "memory|usage", "script|kill", "slowlog|get",
    }
)  # fmt: skip
#: What everybody but a replica may do with a connection; `client` stands for all its subcommands
#: but those that are taken away again.
CONNECTION: Final = frozenset({"ping", "echo", "select", "client"})
NOT_OF_CLIENT: Final = frozenset(
    f"client|{each}"
    for each in (
        "caching", "getredir", "help", "info", "kill", "list", "no-evict", "pause", "reply",
        "tracking", "trackinginfo", "unblock", "unpause",
    )
)  # fmt: skip
#: What a cluster's client asks first, and who may be one.
CLUSTER: Final = frozenset({"command", "cluster|slots"})
OF_CLUSTER: Final = frozenset({"producer", "worker", "reader", "operator"})


class User(msgspec.Struct, frozen=True):
    """One line of an ACL file, taken apart; selectors are users of their own without a name."""

    name: str
    enabled: bool
    commands: frozenset[str]
    removed: frozenset[str]
    categories: tuple[str, ...]
    keys: frozenset[str]
    selectors: tuple["User", ...]
    rest: tuple[str, ...]


def parse(text: str) -> dict[str, User]:
    """The users of an ACL file or of its template."""
    users = {}
    for line in text.splitlines():
        if line.startswith("user "):
            _, name, *rest = line.split(maxsplit=2)
            users[name] = _user(name, rest[0])
    return users


def _user(name: str, rules: str) -> User:
    selectors = tuple(_user("", found) for found in re.findall(r"\(([^)]*)\)", rules))
    words = re.sub(r"\([^)]*\)", "", rules).split()
    return User(
        name=name,
        enabled="on" in words,
        commands=frozenset(w[1:] for w in words if w[0] == "+" and w[1] != "@"),
        removed=frozenset(w[1:] for w in words if w[0] == "-" and w[1] != "@"),
        categories=tuple(w for w in words if w[:2] in {"+@", "-@"}),
        keys=frozenset(w for w in words if w[0] in "~%"),
        selectors=selectors,
        rest=tuple(w for w in words if w[0] not in "+-~%"),
    )


def script_commands(names: frozenset[str]) -> frozenset[str]:
    """Every command those scripts may call, with subcommands as ``xinfo|groups``."""
    called = set()
    for name in names:
        for match in re.finditer(
            r"\b(?:p?call|call_many)\('(\w+)'(?:\s*,\s*'(\w+)')?", source(name)
        ):
            command = match[1].lower()
            container = command in {"memory", "xinfo", "xgroup"}
            called.add(f"{command}|{match[2].lower()}" if container else command)
    return frozenset(called)


def sent_commands(modules: tuple[str, ...], known: frozenset[str]) -> frozenset[str]:
    """Every server command that stands in those modules as a string, or as two arguments."""
    found = set()
    for module in modules:
        for node in ast.walk(ast.parse((WORKER / module).read_text())):
            if isinstance(node, ast.Constant):
                found |= {_capitals(node).replace(" ", "|")} & known
            if isinstance(node, ast.Call | ast.Tuple):
                parts = node.args if isinstance(node, ast.Call) else node.elts
                pairs = pairwise(parts)
                found |= {f"{_capitals(a)}|{_capitals(b)}" for a, b in pairs} & known
    return frozenset(found)


def _capitals(node: ast.AST) -> str:
    """A string constant in capitals, in small letters; empty for anything else."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value.lower() if is_text and node.value.isupper() else ""  # type: ignore[attr-defined]


def wanted(user: str, known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The commands a user's calls send.

    Args:
        user: ``worker``, ``reader``, ``operator`` or ``admin``.
        known: every command of a server with its flags.
    """
    scripts = script_commands(SCRIPTS[user])
    if user == "admin":
        return scripts | RUNNING | {"script|load"} | BY_HAND
    if user == "worker":
        return scripts | sent_commands(MODULES["worker"], frozenset(known))
    outside = sent_commands(MODULES["outside"], frozenset(known))
    if user == "operator":
        return scripts | outside | BY_METHOD[user] | RUNNING
    readable = {name for name in scripts | outside if "write" not in known[name]}
    return frozenset(readable) | BY_METHOD[user]


def all_commands(user: User) -> frozenset[str]:
    """What a user may run on some key or other."""
    return user.commands.union(*(selector.commands for selector in user.selectors))


def problems(template: Path, known: Mapping[str, frozenset[str]]) -> list[str]:
    """What a template grants too much or too little, a sentence each."""
    users = parse(template.read_text())
    expected = {
        "default", "producer", "worker", "reader", "operator", "admin", "metrics", "replica",
    }  # fmt: skip
    found = [f"users are {sorted(users)}"] if set(users) != expected else []
    default = users.get("default")
    if default is None or default.enabled or default.commands or default.keys:
        found.append("the default user must be off and own nothing")
    for name in ("worker", "reader", "operator", "admin"):
        if name in users:
            want, have = wanted(name, known), all_commands(users[name]) - CONNECTION - CLUSTER
            found += [f"{name} needs +{command}" for command in sorted(want - have)]
            found += [f"{name} does not need +{command}" for command in sorted(have - want)]
    for user in users.values():
        granted = {each for part in (user, *user.selectors) for each in part.categories}
        if granted != {"-@all"}:
            found.append(f"{user.name} has the categories {sorted(granted)}")
        if user.name not in {"default", "replica"}:
            missing = CONNECTION - user.commands | NOT_OF_CLIENT - user.removed
            found += [f"{user.name} differs in {each}" for each in sorted(missing)]
            if (user.name in OF_CLUSTER) != (user.commands >= CLUSTER):
                found.append(f"{user.name} and clusters do not agree")
        keys = {each for part in (user, *user.selectors) for each in part.keys}
        if {"allkeys", "allcommands", "nopass", "allchannels"} & set(user.rest) or "~*" in keys:
            found.append(f"{user.name} is not confined")
        if user.enabled and f"#@{user.name}@" not in user.rest:
            found.append(f"{user.name} has no password of its own")
    return found
