"""Subclasses of result backends."""

from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from taskiq import TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress

from taskiq_redis import RedisAsyncResultBackend
from tests._async.support import connections_named
from tests.compat.subclasses.support import on_one_server
from tests.servers import Topology, client_of

pytestmark = pytest.mark.anyio


class Converting(RedisAsyncResultBackend[Any]):
    """Convert values, and change the key of results."""

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        if isinstance(result.return_value, set):
            result.return_value = sorted(result.return_value)
        value = self.serializer.dumpb(result.model_dump(mode="json"))
        async with Redis(connection_pool=self.redis_pool) as redis:
            await redis.set(self._task_name(task_id), value, ex=self.result_ex_time)

    def _task_name(self, task_id: str) -> str:
        return f"{super()._task_name(task_id)}:own"


@on_one_server
async def test_subclass_can_change_key_and_storage_of_results(
    topology: Topology, name: str
) -> None:
    backend = Converting(topology.url, prefix_str=name, keep_results=False, result_ex_time=60)
    done = TaskiqResult(is_err=False, return_value={2, 1}, execution_time=0.1)
    await backend.set_result("id", done)
    await backend.set_progress("id", TaskProgress(state="half", meta=50))
    client = client_of(topology)
    assert client.exists(f"{name}:id:own", f"{name}:id:own__progress") == 2
    progress = await backend.get_progress("id")
    assert progress is not None
    assert progress.meta == 50
    assert (await backend.get_result("id")).return_value == [1, 2]
    assert client.exists(f"{name}:id:own", f"{name}:id:own__progress") == 0
    await backend.shutdown()


@on_one_server
async def test_connection_pool_can_be_replaced_after_shutdown(
    topology: Topology, name: str
) -> None:
    backend: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(topology.url, prefix_str=name)
    await backend.shutdown()
    options: dict[str, Any] = {"client_name": name, "max_connections": 3}
    backend.redis_pool = BlockingConnectionPool.from_url(topology.url, **options)
    await backend.set_result("id", TaskiqResult(is_err=False, return_value=1, execution_time=0.1))
    assert connections_named(topology, name)
    assert backend.redis_pool.connection_kwargs["client_name"] == name
    await backend.shutdown()
