"""Paused queues, purges and cancellations, with `taskiq worker`."""

import pytest

from taskiq_redis._core.keys import delayed_key, paused_key
from tests.e2e.apps import tasks
from tests.e2e.clients import AsyncClient
from tests.e2e.conftest import Clients, Start, queue_is_drained, slow
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import client_of
from tests.waiting import wait_until


def send_delayed(client: AsyncClient, delay: float, *args: int) -> str:
    """Send a delayed task, and return its ID."""
    return client.run(
        tasks.add.kicker().with_broker(client.broker).with_delay(delay).kiq(*args)
    ).task_id


def until_polled(setting: Setting, client: AsyncClient) -> str:
    """Wait until the worker has checked whether the queue is paused; return the ID of a new task.

    The same script moves the delayed task to the queue.
    """
    task_id = send_delayed(client, 0.001, 0, 0)
    wait_until(lambda: not client_of(setting.topology).exists(delayed_key(setting.name)))
    return task_id


@pytest.mark.parametrize(
    ("topology", "mechanism"),
    [
        ("single", "stream"),
        pytest.param("single", "list", marks=pytest.mark.full),
        pytest.param("cluster", "stream", marks=slow),
        pytest.param("cluster", "list", marks=slow),
        pytest.param("sentinel", "stream", marks=slow),
    ],
    indirect=["topology"],
)
def test_paused_worker_ends_its_tasks_and_starts_no_others(
    setting: Setting, worker: Start, clients: Clients, records: Records
) -> None:
    worker()
    client, blocking = clients
    kinds = [tasks.until_released, tasks.until_released_in_thread]
    running = [clients[i % 2].send(kinds[i // 2], i) for i in range(4)]
    wait_until(lambda: records.count("started") == 4)
    assert client.run(client.broker.pause())
    waiting = [until_polled(setting, client)]
    records.signal_file("go").touch()
    for i, sent in enumerate(running):
        assert clients[i % 2].wait(sent).return_value == i
    waiting += [blocking.send(tasks.add, 0, 0).task_id, until_polled(setting, client)]
    cancelled = [send_delayed(client, 60, 0, 0) for _ in clients]
    assert client.run(client.broker.cancel_delayed(cancelled[0]))
    assert blocking.broker.cancel_delayed(cancelled[1])
    assert records.count("add") == 0
    # Started while the queue is paused.
    worker()
    assert blocking.broker.resume()
    assert not client_of(setting.topology).exists(paused_key(setting.name))
    assert [client.wait(task_id).return_value for task_id in waiting] == [0] * len(waiting)
    wait_until(lambda: queue_is_drained(setting))
    assert records.count("add") == len(waiting)
