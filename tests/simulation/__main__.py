"""``python -m tests.simulation``: run many seeds, or one with its trace."""

import argparse
import time

from tests.simulation.redis_account import SimulationServer
from tests.simulation.world import simulate


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one, with its trace")
    parser.add_argument("--stop", action="store_true", help="stop at the first failing seed")
    arguments = parser.parse_args()
    server = SimulationServer()
    try:
        if arguments.seed is not None:
            return _trace(server, arguments.seed)
        return _tally(
            server, range(arguments.first, arguments.first + arguments.seeds), arguments.stop
        )
    finally:
        server.close()


def _trace(server: SimulationServer, seed: int) -> int:
    world = simulate(server, seed, logs=True)
    print("\n".join(world.trace.lines()))
    print("\n".join(world.checker.violations) or "every promise was kept")
    return bool(world.checker.violations)


def _tally(server: SimulationServer, seeds: range, stop: bool) -> int:
    started = time.perf_counter()
    failing: dict[int, str] = {}
    done = 0
    for seed in seeds:
        violations = simulate(server, seed).checker.violations
        done += 1
        if violations:
            failing[seed] = violations[0]
            print(
                f"seed {seed}: {violations[0]}\n  python -m tests.simulation --seed {seed}",
                flush=True,
            )
            if stop:
                break
    elapsed = time.perf_counter() - started
    print(f"{done} seeds, {len(failing)} failing, {done / elapsed:.1f} a second")
    return bool(failing)


if __name__ == "__main__":
    raise SystemExit(main())
