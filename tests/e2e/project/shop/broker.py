"""The broker of a project: async for the worker, and blocking for those who send."""

from taskiq_redis import to_sync
from tests.e2e.setting import SETTING

broker = SETTING.broker()
sync_broker = to_sync(broker)


def make_broker():
    """Return the broker, as taskiq's command line accepts it too."""
    return broker
