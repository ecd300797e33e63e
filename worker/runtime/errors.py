"""The root of this project's exceptions, and those that end the process."""


class WorkerError(Exception):
    """The base of every exception that this project raises on purpose."""


class ConfigError(WorkerError):
    """A configuration that must not run; ``key`` names the wrong key (exit code 78)."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key


class InvariantError(WorkerError):
    """A broken invariant; the process stops before money moves (exit code 70)."""


class UncertainError(WorkerError):
    """A lost answer: what was asked for may or may not have happened (exit code 75)."""
