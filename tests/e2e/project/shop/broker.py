"""The broker of a project: async for the worker, blocking for producers."""

from taskiq_redis import to_sync
from tests.e2e.setting import SETTING

broker = SETTING.broker()
sync_broker = to_sync(broker)


def make_broker():
    """Return the broker: taskiq's command line also accepts a factory."""
    return broker
