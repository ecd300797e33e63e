"""``python -m tests.simulation``: run many seeds, or one with its trace."""

import argparse
import time

from tests.simulation.memory_account import MemoryPlace
from tests.simulation.redis_account import SimulationServer
from tests.simulation.steps import Place
from tests.simulation.world import simulate


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one, with its trace")
    parser.add_argument("--stop", action="store_true", help="stop at the first failing seed")
    parser.add_argument(
        "--ledger", choices=("redis", "memory"), default="redis", help="what keeps the account"
    )
    arguments = parser.parse_args()
    if arguments.ledger == "memory":
        return _run(MemoryPlace(), arguments)
    server = SimulationServer()
    try:
        return _run(server, arguments)
    finally:
        server.close()


def _run(place: Place, arguments: argparse.Namespace) -> int:
    if arguments.seed is not None:
        return _trace(place, arguments.seed)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    return _tally(place, seeds, arguments)


def _trace(place: Place, seed: int) -> int:
    world = simulate(place, seed, logs=True)
    print("\n".join(world.trace.lines()))
    print("\n".join(world.checker.violations) or "every promise was kept")
    return bool(world.checker.violations)


def _tally(place: Place, seeds: range, arguments: argparse.Namespace) -> int:
    started = time.perf_counter()
    failing: dict[int, str] = {}
    done = 0
    for seed in seeds:
        violations = simulate(place, seed).checker.violations
        done += 1
        if violations:
            failing[seed] = violations[0]
            print(
                f"seed {seed}: {violations[0]}\n  python -m tests.simulation "
                f"--ledger {arguments.ledger} --seed {seed}",
                flush=True,
            )
            if arguments.stop:
                break
    elapsed = time.perf_counter() - started
    print(f"{done} seeds, {len(failing)} failing, {done / elapsed:.1f} a second")
    return bool(failing)


if __name__ == "__main__":
    raise SystemExit(main())
