"""How many processor instructions one signal costs the worker and the server: repeatable counts.

``make instructions``, or ``python -m tests.benchmarks.instructions``. The worker is ``python -m
worker run`` and the server the bundled Valkey, each a process of its own under ``valgrind
--tool=callgrind``; between them stands a relay (:mod:`.relay`) that forwards every command and
reply but keeps back a blocking ``XREAD``. While it is kept back the worker has nothing to do, and
the harness adds a batch of signals to the stream. Then it has both counters started anew, lets the
``XREAD`` go, waits until both processes rest, and reads the counters. So every batch has exactly
the size that the harness chose, however fast the machine is, and neither start-up nor the
producer's ``XADD`` is counted. The figures exist for batches of 32, as under load, and for batches
of one, a lone signal.

What the harness knows of the worker: its command line and environment, that it waits for signals
with a blocking ``XREAD`` of the stream, and that it runs on uvloop, whose timers are put off
(:mod:`.still_worker`) so that nothing happens by the clock. It uses no module of the worker, apart
from what all benchmarks use to make signals and to start the server.

Two fixed jobs, one in Python and one in the server (:mod:`.reference`), run under callgrind in the
same run. Their committed counts over those of this run scale the figures, so that another build of
Python or of the server does not look like a change of the worker.
"""
