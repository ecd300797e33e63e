"""The command line: the commands, and the exit code and message of each failure.

A command's module is imported only when that command is asked for, so ``--help`` and the small
commands start quickly.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, NoReturn

from worker import __version__
from worker.cli import output
from worker.cli.exit_codes import BAD_CONFIG, BROKEN_INVARIANT, FAILURE, NOT_KNOWN, OK
from worker.domain.money import use_exact_arithmetic
from worker.domain.nearest import hint
from worker.runtime.errors import ConfigError, InvariantError, UncertainError, WorkerError
from worker.runtime.printable import printable

#: Set by the shell that wants to complete what is being typed (argcomplete's protocol).
COMPLETION: Final = "_ARGCOMPLETE"
#: Every command and its line of help. The module of the same name in this package (``_`` for ``-``)
#: has ``configure(parser)``, which adds the arguments, and ``run(options)``, which returns the exit
#: code.
COMMANDS: Final[Mapping[str, str]] = {
    "run": "run one worker until it is told to stop",
    "demo": "watch a simulated run: private server, workers and signals",
    "submit": "put signals on the stream",
    "tail": "follow the streams",
    "status": "trading state, what needs attention, flow",
    "workers": "who works on the account",
    "limits": "how much of each limit is used",
    "pnl": "profit, realised and not",
    "balance": "what the wallets hold",
    "signals": "the newest signals and what became of them",
    "orders": "the newest orders, or those at an exchange now",
    "order": "one signal's timeline",
    "positions": "open positions",
    "halt": "send no more orders",
    "reduce": "only close positions",
    "resume": "trade again",
    "flatten": "close every position, then halt",
    "resolve": "state what became of an order its exchange does not report",
    "correct": "set a position to the quantity really held",
    "dead": "look at dead letters, replay or discard them",
    "mend-stream": "bring streams with ids ahead of Redis's clock back to it",
    "check": "try configuration, Redis and every exchange",
    "config": "print the effective configuration, secrets hidden",
    "schema": "print the AsyncAPI document of all streams",
}


class _Parser(argparse.ArgumentParser):
    """A parser that suggests what a misspelt command, choice or option was to be.

    Its messages, which quote arguments, are printable.
    """

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message("\n".join(map(printable, message.split("\n"))), file)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        suggested = hint(str(value), known)
        if action.dest == "command":
            problem = f"{value!r} is no command{suggested or '; --help lists them'}"
        else:
            problem = f"{value!r} is not one of {', '.join(known)}{suggested}"
        raise argparse.ArgumentError(action, problem)

    def _refuse(self, unknown: Sequence[str]) -> None:
        """End with the usage and a sentence that names each argument that was not understood."""
        first = unknown[0].partition("=")[0]
        suggested = hint(first, self._long_options()) if first.startswith("-") else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{suggested}")

    def _long_options(self) -> list[str]:
        return [name for name in self._option_string_actions if name.startswith("--")]


class _CommandParser(_Parser):
    """A command's parser, whose module adds its arguments when the command is given.

    Every parser, nested ones too, takes ``--config``, so that its position does not matter.
    """

    command: str = ""
    _arguments: Sequence[str] = ()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _add_config(self, default=argparse.SUPPRESS)

    def load(self) -> None:
        """Import the command's module and let it add its arguments."""
        if self.command:
            module = importlib.import_module(f"worker.cli.{self.command.replace('-', '_')}")
            self.command = ""
            module.configure(self)
            self.set_defaults(run_command=module.run)

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the command's arguments, all of which must be known."""
        self.load()
        self._arguments = tuple(args or ())
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """End with a sentence; where an argument is missing, also with one that was misspelt."""
        if message.startswith("the following arguments are required"):
            known = self._long_options()
            given = [one.partition("=")[0] for one in self._arguments if one.startswith("--")]
            unknown = [one for one in given if not any(name.startswith(one) for name in known)]
            if unknown and (suggested := hint(unknown[0], known)):
                message += f"; there is no {unknown[0]}{suggested}"
        super().error(message)


def build_parser(loaded: str = "") -> argparse.ArgumentParser:
    """Build the parser of the whole command line.

    Args:
        loaded: a command whose arguments are added at once.
    """
    parser = _Parser(
        prog="execution-worker",
        description="Turn trading signals from a Redis stream into orders on an exchange, each "
        "exactly once.",
        epilog="Exit codes: 0 ok, 1 failure, 2 usage, 70 broken invariant, 75 not known "
        "(Redis did not answer: it may or may not have happened), 78 bad configuration.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_config(parser, default=None)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_CommandParser
    )
    for name, help_line in COMMANDS.items():
        sub = commands.add_parser(name, help=help_line, description=_sentence(help_line))
        sub.command = name
        if name == loaded:
            sub.load()
    return parser


def _complete(line: str) -> NoReturn:
    """Tell the shell what may come next in the line being typed, and end the process."""
    typed = next((word for word in line.split() if word in COMMANDS), "")
    # The library looks at all parsers beforehand, so the one that will be used must be whole.
    importlib.import_module("argcomplete").autocomplete(build_parser(loaded=typed))
    raise SystemExit(OK)


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what its encoding does not have
    try:
        if COMPLETION in os.environ:
            _complete(os.environ.get("COMP_LINE", ""))
        parser = build_parser()
        given = sys.argv[1:] if argv is None else argv
        for argument in given:
            if not _is_utf8(argument):
                parser.error(f"{argument} is not UTF-8")
        options = parser.parse_args(given)
        use_exact_arithmetic()
        code = int(options.run_command(options))
        sys.stdout.flush()
    except SystemExit as stop:  # argparse: --help, --version, wrong usage
        return stop.code if isinstance(stop.code, int) else FAILURE
    except KeyboardInterrupt:
        output.complain("interrupted")
        return FAILURE
    except BrokenPipeError:
        # The reader of the output is gone; keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        return _explain(error)
    return code


def _is_utf8(argument: str) -> bool:
    """Return whether an argument holds no byte that Python could not decode."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _explain(error: BaseException) -> int:
    """Print errors of this project in a sentence each; re-raise any other with its traceback."""
    known = list(_known(error))
    if not known:
        sys.excepthook = output.print_traceback
        raise error
    output.complain(*known)
    if any(isinstance(cause, InvariantError) for cause in known):
        return BROKEN_INVARIANT
    if any(isinstance(cause, UncertainError) for cause in known):
        return NOT_KNOWN
    return BAD_CONFIG if any(isinstance(cause, ConfigError) for cause in known) else FAILURE


def _known(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors of this project in ``error`` or its group; none if it holds any other."""
    if isinstance(error, BaseExceptionGroup):
        members = [list(_known(member)) for member in error.exceptions]
        if all(members):
            yield from chain.from_iterable(members)
    elif isinstance(error, WorkerError):
        yield error
