"""The command ``metrics``, which serves figures for Prometheus."""

import signal
import threading
from typing import Annotated

import typer

from taskiq_redis.cli.options import on_broker
from taskiq_redis.cli.output import say
from taskiq_redis.cli.targets import CommandError, Target, open_broker, queues_of

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any.")]
Address = Annotated[
    str, typer.Option("--address", help="Address to listen on. Figures aren't secret.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("metrics")(serve)


@on_broker
def serve(target: Target, port: Port = 9808, address: Address = "0.0.0.0") -> None:  # noqa: S104
    """Serve figures of the queues for Prometheus.

    It runs until Ctrl-C or SIGTERM.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415

        from taskiq_redis.contrib.prometheus import QueueCollector  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(
            f"`metrics` needs the package {error.name!r}. Install it: "
            "pip install 'taskiq-redis[prometheus]'"
        ) from error
    with open_broker(target) as broker:
        collector = QueueCollector(broker, queues=queues_of(target, broker))
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            server, thread = start_http_server(port, address, registry)
        except OSError as error:
            raise CommandError(f"Can't listen on {address}:{port}: {error}.") from error
        say(f"Serving metrics on http://{address}:{server.server_port}/metrics")
        wait_for_signal()
        server.shutdown()
        server.server_close()
        thread.join()
        collector.close()


def wait_for_signal() -> None:
    """Wait for SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    # Without a timeout, no signal is handled on Windows.
    while not ended.wait(1.0):
        pass
