"""The command line: which command, which configuration, and how each failure ends.

A command's module is imported only when that command is asked for, so ``--help`` and the small
commands start quickly.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from worker import __version__
from worker.runtime.errors import ConfigError, InvariantError, WorkerError

OK: Final = 0
FAILURE: Final = 1
BROKEN_INVARIANT: Final = 70
BAD_CONFIG: Final = 78


class Command(NamedTuple):
    """One command: the module that has ``configure`` and ``run``, and a line of help."""

    module: str
    help: str


#: Every command. A module's ``run(options)`` returns the exit code; the command's own name is in
#: ``options.command``.
COMMANDS: Final[Mapping[str, Command]] = {
    "run": Command("run", "run one worker until it is told to stop"),
    "demo": Command("demo", "see it work: server, workers and signals, all made up"),
    "submit": Command("submit", "put signals on the stream"),
    "tail": Command("tail", "follow the streams"),
    "status": Command("status", "trading state, what needs attention, flow"),
    "order": Command("order", "one signal's timeline"),
    "positions": Command("positions", "open positions"),
    "halt": Command("trading", "send no more orders"),
    "reduce": Command("trading", "only close positions"),
    "resume": Command("trading", "trade again"),
    "flatten": Command("flatten", "close every position, then halt"),
    "resolve": Command("decisions", "say what became of an order its exchange does not tell of"),
    "correct": Command("decisions", "say what is really held of a position"),
    "dead": Command("dead", "look at dead letters, replay or discard them"),
    "check": Command("check", "try configuration, Redis and every exchange"),
    "config": Command("config", "print the effective configuration, secrets hidden"),
    "schema": Command("schema", "print the AsyncAPI document of all streams"),
}


class _CommandParser(argparse.ArgumentParser):
    """A command's parser: its module says which arguments there are, when they are needed.

    Every one of them, nested ones too, takes ``--config``, so that its place does not matter.
    """

    command: Command | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _add_config(self, default=argparse.SUPPRESS)

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Ask the command's module for the arguments first."""
        if self.command is not None:
            module = importlib.import_module(f"worker.cli.{self.command.module}")
            self.command = None
            module.configure(self)
            self.set_defaults(run_command=module.run)
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line's parser."""
    parser = argparse.ArgumentParser(
        prog="execution-worker",
        description="Turn trading signals from a Redis stream into orders on an exchange, each "
        "exactly once.",
        epilog="Exit codes: 0 ok, 1 failure, 2 usage, 70 broken invariant, 78 bad configuration.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_config(parser, default=None)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_CommandParser
    )
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=_sentence(command.help))
        sub.command = command
    return parser


def _add_config(parser: argparse.ArgumentParser, *, default: Any) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=default,
        help="configuration, TOML (also WORKER_CONFIG)",
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; the process's own by default.

    Returns:
        The exit code.
    """
    try:
        options = build_parser().parse_args(argv)
        code = int(options.run_command(options))
        sys.stdout.flush()
    except SystemExit as stop:  # argparse: --help, --version, wrong usage
        return stop.code if isinstance(stop.code, int) else FAILURE
    except KeyboardInterrupt:
        print("execution-worker: interrupted", file=sys.stderr)
        return FAILURE
    except BrokenPipeError:
        # Whoever read our output has had enough; keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        return _explain(error)
    return code


def _explain(error: BaseException) -> int:
    """Say in one sentence what went wrong; an error of unknown kind keeps its traceback."""
    known = list(_known(error))
    if not known:
        raise error
    for one in known:
        print(f"execution-worker: {one}", file=sys.stderr)
    if any(isinstance(one, InvariantError) for one in known):
        return BROKEN_INVARIANT
    return BAD_CONFIG if any(isinstance(one, ConfigError) for one in known) else FAILURE


def _known(error: BaseException) -> Iterator[BaseException]:
    """The errors of this project in ``error``, which may be a group; none if any other is."""
    if isinstance(error, BaseExceptionGroup):
        found = [list(_known(one)) for one in error.exceptions]
        if all(found):
            yield from (one for some in found for one in some)
    elif isinstance(error, WorkerError):
        yield error
