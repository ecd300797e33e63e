"""The Redis users of deploy/redis/users.acl.template that may run a command, for error messages."""

from collections.abc import Mapping
from typing import Final

#: Commands by the users that may run them; what is not here only the user ``worker`` may run.
_COMMANDS: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    ("reader", "operator", "worker", "metrics", "admin"): (
        "xinfo|groups", "xinfo|stream", "xlen",
    ),
    ("producer", "operator", "worker", "admin"): (
        "xadd",
    ),
    ("reader", "operator", "worker", "admin"): (
        "get", "hget", "hgetall", "hmget", "time", "xpending", "xrange", "xrevrange",
    ),
    ("reader", "operator", "worker", "metrics"): (
        "info",
    ),
    ("operator", "worker", "admin"): (
        "evalsha", "exists", "hdel", "hset", "set", "zscore",
    ),
    ("reader", "operator", "worker"): (
        "xread", "zcard", "zcount", "zrange",
    ),
    ("metrics", "admin"): (
        "client|list", "latency|latest", "slowlog|get",
    ),
    ("operator", "worker"): (
        "xdel",
    ),
    ("reader", "operator"): (
        "exec", "multi", "zintercard",
    ),
    ("worker", "admin"): (
        "del", "hincrby", "hlen", "memory|usage", "rpush", "script|load", "xack", "xclaim",
        "xgroup|create", "xtrim", "zadd", "zrem",
    ),
    ("worker", "metrics"): (
        "xinfo|consumers",
    ),
    ("admin",): (
        "acl|load", "acl|log", "bgsave", "client|kill", "config|set", "function|kill", "lastsave",
        "lrange", "lrem", "rename", "script|kill", "xgroup|setid",
    ),
    ("metrics",): (
        "latency|histogram", "slowlog|len", "type",
    ),
    ("operator",): (
        "unwatch", "watch",
    ),
}  # fmt: skip
_USERS: Final = {command: users for users, commands in _COMMANDS.items() for command in commands}


def users_for(command: str) -> str:
    """Return the users that may run a command such as ``xinfo|groups``, as words."""
    *first, last = _USERS.get(command.lower(), ("worker",))
    return f"{', '.join(first)} or {last}" if first else last
