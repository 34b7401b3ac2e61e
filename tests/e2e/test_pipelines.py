"""The package taskiq-pipelines on our brokers and result backends."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from taskiq import AsyncBroker
from taskiq.serializers import PickleSerializer
from taskiq_pipelines import Pipeline

from tests.e2e.apps import pipelines
from tests.e2e.conftest import Clients, Start, mostly_on_one_server, on_one_server, slow
from tests.e2e.setting import Setting

APP = "tests.e2e.apps.pipelines:broker"


def long_pipeline(broker: AsyncBroker) -> Pipeline[..., Any]:
    """Make a pipeline with steps of all kinds."""
    return (
        Pipeline(broker, pipelines.add)
        .call_next(pipelines.add, other=5)
        # A task that is declared on a blocking broker is passed by its kicker.
        .call_next(pipelines.double.kicker())
        .call_next(pipelines.spread)
        .map(pipelines.add, other=10, check_interval=0.05)
        .filter(pipelines.is_odd, check_interval=0.05)
        .call_next(pipelines.summarise, param_name="values", unit=" m")
    )


#: its result for 1
MEASURED = f"{sum(number + 10 for number in range(14) if number % 2)} m"


@mostly_on_one_server
@pytest.mark.parametrize("mechanism", ["stream", pytest.param("list", marks=slow)])
def test_pipeline_with_steps_of_all_kinds(worker: Start, clients: Clients) -> None:
    worker(app=APP, processes=2)
    client, sync_client = clients
    sent = client.run(long_pipeline(client.broker).kiq(1))
    assert client.wait(sent).return_value == MEASURED
    assert sync_client.wait(sent.task_id).return_value == MEASURED

    after = Pipeline(client.broker, pipelines.add).call_after(pipelines.nothing)
    assert client.wait(client.run(after.kiq(1))).return_value == "nothing"


@on_one_server
def test_pipeline_with_a_binary_serializer(
    setting: Setting, worker: Start, connect: Callable[[Any], Clients]
) -> None:
    # Messages and results carry the steps in a label of bytes.
    worker(app=APP, extras={"serializer": "pickle"})
    client, sync_client = connect(setting.broker().with_serializer(PickleSerializer()))
    sent = client.run(long_pipeline(client.broker).kiq(1))
    assert sync_client.wait(sent.task_id).return_value == MEASURED


@on_one_server
def test_pipeline_result_is_the_error_of_a_failed_step(worker: Start, clients: Clients) -> None:
    worker(app=APP)
    client, sync_client = clients
    for pipeline in (
        Pipeline(client.broker, pipelines.fail).call_next(pipelines.add),
        Pipeline(client.broker, pipelines.spread).map(pipelines.fail, check_interval=0.05),
    ):
        sent = client.run(pipeline.kiq(2))
        assert "as it should" in str(client.wait(sent).error)
        assert "as it should" in str(sync_client.wait(sent.task_id).error)


@mostly_on_one_server
def test_pipeline_is_sent_from_blocking_code(
    setting: Setting, worker: Start, clients: Clients
) -> None:
    """The package has no blocking API, so sending takes a short-lived event loop."""
    worker(app=APP)
    broker = setting.broker()

    async def send() -> str:
        async with broker:
            return (await long_pipeline(broker).kiq(1)).task_id

    assert clients[1].wait(asyncio.run(send())).return_value == MEASURED
