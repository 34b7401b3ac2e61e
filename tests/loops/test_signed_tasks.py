"""Tasks of a signing program from `kiq` to `wait_result`, and what forged messages can't do."""

import asyncio
from typing import Any

import pytest
from taskiq import SimpleRetryMiddleware, TaskiqMessage
from taskiq.exceptions import SendTaskError
from taskiq.receiver import Receiver

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker, Signer, to_sync
from tests._async.pending import LEASE
from tests._async.signers import SIGNER, STRANGER, is_signed
from tests.loops.test_receivers import receiving
from tests.servers import Topology, client_of, keys_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]


def program(topology: Topology, name: str, signer: Signer | None, **options: Any) -> Any:
    """Return a broker with results, as a process of a program makes it."""
    results: Any = RedisAsyncResultBackend(topology.url, prefix_str=name)
    broker: Any = RedisStreamBroker(
        topology.url, queue_name=name, idle_timeout=LEASE, xread_block=200, **options
    )
    broker.with_middlewares(SimpleRetryMiddleware()).with_result_backend(results)
    if signer is not None:
        broker.with_signer(signer)
        results.with_signer(signer)
    return broker


def forge(task_name: str, task_id: str, **labels: Any) -> TaskiqMessage:
    """Return a message that no broker has signed."""
    return TaskiqMessage(
        task_id=task_id, task_name=task_name, labels=labels, args=["forged"], kwargs={}
    )


async def test_only_signed_tasks_are_run_and_their_results_trusted(
    topology: Topology, name: str
) -> None:
    broker, runs = program(topology, name, SIGNER), list[str]()
    broker.is_worker_process = True
    client = client_of(topology)

    @broker.task(task_name="task", retry_on_error=True, max_retries=2)
    async def task(by: str) -> str:
        runs.append(by)
        if runs == ["async"]:
            raise ValueError("the first run fails")
        return by

    async with receiving(broker):
        for signer in (None, STRANGER):
            forger = program(topology, name, signer)
            # The result of a task that is sent below.
            await forger.kick(forger.formatter.dumps(forge("task", "id")))
            await forger.shutdown()
        sent = await task.kicker().with_task_id("id").kiq("async")
        # The retry is signed, too.
        assert (await sent.wait_result(timeout=60)).return_value == "async"
        assert is_signed(client.get(f"{name}:id"))

        def send_by_twin() -> None:
            with to_sync(broker) as twin:
                done = twin.kicker(task).kiq("sync").wait_result(timeout=60)
                assert done.return_value == "sync"
                assert [letter.deliveries for letter in twin.dead_letters()] == [0, 0]

        await asyncio.to_thread(send_by_twin)
    await broker.shutdown()
    assert runs == ["async", "async", "sync"]


async def test_retry_of_a_message_with_a_forged_label_is_not_sent(
    topology: Topology, name: str
) -> None:
    broker, runs = program(topology, name, None), list[str]()
    broker.with_allowed_queues()

    @broker.task(task_name="fails")
    async def fails(by: str) -> None:
        runs.append(by)
        raise ValueError(by)

    forged = forge("fails", "id", queue_name=f"{name}:victim", retry_on_error=True)
    receiver = Receiver(broker, run_startup=False)
    with pytest.raises(SendTaskError) as caught:
        await receiver.callback(broker.formatter.dumps(forged).message, raise_err=True)
    await broker.shutdown()
    assert f"the queue '{name}:victim', which is not allowed" in str(caught.value.__cause__)
    assert runs == ["forged"]
    assert keys_of(topology, f"*{name}*") == []
