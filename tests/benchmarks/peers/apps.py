"""One small application a peer, set up as fast as its own documentation allows.

Every peer handles message by message and acknowledges (or removes) each only when its handler has
returned, except ``faststream-batch``. Results are not kept, logging is off, uvloop and hiredis are
used wherever they can be. Imports are local: each process has one peer in it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import redis
import redis.asyncio

from tests.benchmarks.peers.message import EVENTS, event

#: Puts one message on the peer's queue.
Send = Callable[[str], Awaitable[Any]]
#: Jobs an asyncio worker may have in hand.
CONCURRENCY: Final = 100
GROUP: Final = "peers"
STREAM: Final = "messages"


class Peer:
    """A task queue: how its worker runs, how a message gets to it, and which settings were chosen.

    Args:
        url: the server.
    """

    package: str
    settings: str

    def __init__(self, url: str) -> None:
        self.url = url
        self._events: Any = None

    @property
    def events(self) -> Any:
        """The handler's own client, one a process."""
        if self._events is None:
            self._events = redis.asyncio.Redis.from_url(self.url)
        return self._events

    async def handle(self, data: str) -> None:
        """The job."""
        await self.events.xadd(EVENTS, event(data))

    async def work(self) -> None:
        """Run a worker for ever."""
        raise NotImplementedError

    async def sender(self) -> Send:
        """Connect as a producer."""
        raise NotImplementedError


class FastStream(Peer):
    """FastStream on a Redis stream with a consumer group."""

    package = "faststream"
    settings = "StreamSub with a group, max_records=100, apply_types=False"
    batch = False

    def _broker(self) -> Any:
        from faststream.redis import RedisBroker  # type: ignore[import-not-found]  # noqa: PLC0415

        return RedisBroker(self.url, logger=None, apply_types=False)

    async def work(self) -> None:
        from faststream import FastStream as App  # type: ignore[import-not-found]  # noqa: PLC0415
        from faststream.redis import StreamSub  # noqa: PLC0415

        broker = self._broker()
        stream = StreamSub(
            STREAM, group=GROUP, consumer="c", max_records=100, last_id=">", batch=self.batch
        )
        if self.batch:
            broker.subscriber(stream=stream)(self._batch_handler())
        else:
            broker.subscriber(stream=stream)(self._message_handler())
        await App(broker, logger=None).run(log_level=50)

    def _message_handler(self) -> Callable[[str], Awaitable[None]]:
        async def handler(body: str) -> None:
            await self.handle(body)

        return handler

    def _batch_handler(self) -> Callable[[list[dict[str, Any]]], Awaitable[None]]:
        async def handler(bodies: list[dict[str, Any]]) -> None:
            pipeline = self.events.pipeline(transaction=False)
            for body in bodies:  # decoded by FastStream, a batch as one JSON list
                pipeline.xadd(EVENTS, event(body))
            await pipeline.execute()

        return handler

    async def sender(self) -> Send:
        broker = self._broker()
        await broker.connect()

        async def send(data: str) -> None:
            await broker.publish(data, stream=STREAM)

        return send


class FastStreamBatch(FastStream):
    """The same with a handler of whole batches, all of which come again after a crash."""

    settings = "as above, batch=True: one handler call and one pipeline for up to 100"
    batch = True


class Taskiq(Peer):
    """Taskiq with its Redis stream broker."""

    package = "taskiq"
    settings = f"RedisStreamBroker, {CONCURRENCY} tasks, no parameter parsing, ack when executed"

    def _broker(self) -> tuple[Any, Any]:
        from taskiq_redis import RedisStreamBroker  # type: ignore[import-not-found]  # noqa: PLC0415

        broker = RedisStreamBroker(self.url, queue_name=STREAM, consumer_id="0")

        async def job(data: str) -> None:
            await self.handle(data)

        return broker, broker.register_task(job, task_name="job")

    async def work(self) -> None:
        from taskiq.acks import AcknowledgeType  # type: ignore[import-not-found]  # noqa: PLC0415
        from taskiq.api import run_receiver_task  # type: ignore[import-not-found]  # noqa: PLC0415

        broker, _ = self._broker()
        broker.is_worker_process = True
        await run_receiver_task(
            broker,
            max_async_tasks=CONCURRENCY,
            max_prefetch=CONCURRENCY,
            validate_params=False,
            run_startup=True,
            ack_time=AcknowledgeType.WHEN_EXECUTED,
        )

    async def sender(self) -> Send:
        broker, job = self._broker()
        await broker.startup()
        send: Send = job.kiq
        return send


class Docket(Peer):
    """Docket (pydocket)."""

    package = "pydocket"
    settings = "concurrency=50, minimum_check_interval=2 ms, no automatic tasks, execution_ttl=0"
    #: Its client has 100 connections and raises when a 101st is wanted, which loses messages.
    concurrency: Final = 50
    #: How long it sleeps when all of these are taken.
    check_ms: Final = 2

    def _docket(self) -> tuple[Any, Any]:
        from docket import Docket as App  # type: ignore[import-not-found]  # noqa: PLC0415

        async def job(data: str) -> None:
            await self.handle(data)

        app = App(name=STREAM, url=self.url, execution_ttl=timedelta(0))
        app.register(job)
        return app, job

    async def work(self) -> None:
        from docket import Worker  # noqa: PLC0415

        app, _ = self._docket()
        async with (
            app,
            Worker(
                app,
                concurrency=self.concurrency,
                schedule_automatic_tasks=False,
                minimum_check_interval=timedelta(milliseconds=self.check_ms),
            ) as worker,
        ):
            await worker.run_forever()

    async def sender(self) -> Send:
        app, job = self._docket()
        await app.__aenter__()

        async def send(data: str) -> None:
            await app.add(job)(data)  # each call of add() makes a new key

        return send


class Arq(Peer):
    """The arq job queue, in an environment of its own (it needs redis-py below 6)."""

    package = "arq"
    settings = f"max_jobs={CONCURRENCY}, poll_delay=0.01, msgpack, no results"

    def _settings(self) -> Any:
        from arq.connections import RedisSettings  # type: ignore[import-not-found]  # noqa: PLC0415

        return RedisSettings.from_dsn(self.url)

    async def work(self) -> None:
        import msgspec  # noqa: PLC0415
        from arq.worker import Worker, func  # type: ignore[import-not-found]  # noqa: PLC0415

        async def job(_context: dict[str, Any], data: str) -> None:
            await self.handle(data)

        worker = Worker(
            [func(job, name="job", keep_result=0)],
            redis_settings=self._settings(),
            max_jobs=CONCURRENCY,
            poll_delay=0.01,
            keep_result=0,
            log_results=False,
            queue_read_limit=5 * CONCURRENCY,
            job_serializer=msgspec.msgpack.encode,
            job_deserializer=msgspec.msgpack.decode,
        )
        await worker.async_run()

    async def sender(self) -> Send:
        import msgspec  # noqa: PLC0415
        from arq.connections import create_pool  # noqa: PLC0415

        pool = await create_pool(
            self._settings(),
            job_serializer=msgspec.msgpack.encode,
            job_deserializer=msgspec.msgpack.decode,
        )
        return lambda data: pool.enqueue_job("job", data)


class Saq(Peer):
    """The SAQ job queue."""

    package = "saq"
    settings = f"concurrency={CONCURRENCY}, results not kept (ttl=-1)"

    def _queue(self) -> Any:
        from saq import Queue  # type: ignore[import-not-found]  # noqa: PLC0415

        return Queue.from_url(self.url)

    async def work(self) -> None:
        from saq import Worker  # noqa: PLC0415

        async def job(_context: dict[str, Any], *, data: str) -> None:
            await self.handle(data)

        worker = Worker(self._queue(), functions=[("job", job)], concurrency=CONCURRENCY)
        await worker.start()

    async def sender(self) -> Send:
        queue = self._queue()
        await queue.connect()
        return lambda data: queue.enqueue("job", data=data, ttl=-1)


class Streaq(Peer):
    """The streaQ task queue."""

    package = "streaq"
    settings = f"concurrency={CONCURRENCY}, prefetch={CONCURRENCY}, results not kept (ttl=0)"

    def _worker(self) -> tuple[Any, Any]:
        from streaq import Worker  # type: ignore[import-not-found]  # noqa: PLC0415

        worker = Worker(redis_url=self.url, concurrency=CONCURRENCY, prefetch=CONCURRENCY)

        async def job(data: str) -> None:
            await self.handle(data)

        return worker, worker.task(ttl=0, name="job")(job)

    async def work(self) -> None:
        worker, _ = self._worker()
        await worker.run_async()

    async def sender(self) -> Send:
        worker, job = self._worker()
        await worker.__aenter__()

        async def send(data: str) -> None:
            await job.enqueue(data)

        return send


class Dramatiq(Peer):
    """Dramatiq with its Redis broker; threads, so everything here is synchronous."""

    package = "dramatiq"
    settings = "32 threads, no middleware, prefetch 500, worker_timeout=10 ms"
    threads: Final = 32

    def _broker(self) -> tuple[Any, Any]:
        os.environ["dramatiq_queue_prefetch"] = "500"  # noqa: SIM112 (its own spelling)
        import dramatiq  # type: ignore[import-not-found]  # noqa: PLC0415
        from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]  # noqa: PLC0415

        broker = RedisBroker(url=self.url, middleware=[])
        dramatiq.set_broker(broker)
        client = redis.Redis.from_url(self.url)

        def job(data: str) -> None:
            client.xadd(EVENTS, event(data))  # type: ignore[arg-type]

        return broker, dramatiq.actor(job, actor_name="job", queue_name="messages")

    async def work(self) -> None:
        from dramatiq.worker import Worker  # type: ignore[import-not-found]  # noqa: PLC0415

        broker, _ = self._broker()
        Worker(broker, worker_threads=self.threads, worker_timeout=10).start()
        await asyncio.Event().wait()

    async def sender(self) -> Send:
        _, actor = self._broker()

        async def send(data: str) -> None:
            actor.send(data)

        return send


class Celery(Peer):
    """Celery with Redis as its broker."""

    package = "celery"
    settings = "solo pool, prefetch 64, acks_late, results ignored, no gossip, mingle, heartbeat"

    def _app(self) -> tuple[Any, Any]:
        from celery import Celery as App  # type: ignore[import-not-found]  # noqa: PLC0415

        app = App("peers", broker=self.url)
        app.conf.update(
            task_ignore_result=True,
            task_acks_late=True,
            worker_prefetch_multiplier=64,
            task_serializer="json",
            worker_hijack_root_logger=False,
            worker_send_task_events=False,
        )
        client = redis.Redis.from_url(self.url)

        def job(data: str) -> None:
            client.xadd(EVENTS, event(data))  # type: ignore[arg-type]

        return app, app.task(job, name="job")

    async def work(self) -> None:
        app, _ = self._app()
        arguments = ["worker", "--pool=solo", "--loglevel=CRITICAL", "--concurrency=1"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        app.worker_main([*arguments, *quiet])

    async def sender(self) -> Send:
        _, task = self._app()

        async def send(data: str) -> None:
            task.apply_async((data,))

        return send


PEERS: Final[dict[str, type[Peer]]] = {
    "dramatiq": Dramatiq,
    "faststream": FastStream,
    "faststream-batch": FastStreamBatch,
    "taskiq": Taskiq,
    "docket": Docket,
    "arq": Arq,
    "saq": Saq,
    "streaq": Streaq,
    "celery": Celery,
}
