"""Suggest the option that a misspelled one probably means."""

import inspect
import re
from difflib import get_close_matches

#: how similar a suggested name is, from 0 to 1: some letters differ, or some words
_CLOSE, _SIMILAR = 0.85, 0.65
#: by option, the names that other libraries have for such an option
_SYNONYMS = {
    "queue_name": {"channel", "list", "name", "queue", "stream", "stream_name", "topic"},
    "result_ex_time": {"ex", "expiration", "expire", "expires", "expires_in", "expiry", "ttl"},
    "result_px_time": {"expire_ms", "px", "ttl_ms"},
    "keep_results": {"delete_results", "keep"},
    "consumer_group_name": {"consumer_group", "group", "group_name"},
    "consumer_name": {"consumer", "worker_name"},
    "max_deliveries": {"attempts", "max_attempts", "max_retries", "max_tries", "retries"},
    "idle_timeout": {"claim_timeout", "lease", "lease_time", "min_idle_time", "visibility_timeout"},
    "xread_block": {"block", "block_ms"},
    "xread_count": {"batch_size", "count", "prefetch", "prefetch_count"},
    "maxlen": {"max_length", "stream_maxlen"},
    "additional_streams": {"queues", "streams"},
    "kick_timeout": {"publish_timeout", "send_timeout"},
    "max_connection_pool_size": {"connections", "pool_size"},
    "prefix_str": {"key_prefix", "prefix", "results_prefix"},
    "prefix": {"key_prefix", "prefix_str", "queue_name"},
    "password": {"auth", "passwd", "pw"},
    "username": {"login", "user"},
    "ssl_ca_certs": {"ca_certs", "cafile"},
}


def _options_of(constructed: type) -> list[str]:
    """Return the names of a class's own options: those before ``**connection_kwargs``.

    Args:
        constructed: class of a broker, result backend or schedule source.
    """
    names: list[str] = []
    for base in constructed.__mro__:
        init = vars(base).get("__init__")
        parameters = [] if init is None else [*inspect.signature(init).parameters.values()][1:]
        if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
            named = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
            names += [each.name for each in parameters if each.kind in named]
    return names


def suggestion(error: Exception, owner: type, client: type) -> str:
    """Return advice for an unexpected option: the name it probably means; empty if there is none.

    Args:
        error: Python's error about the unexpected option, or any other error.
        owner: class of the broker, result backend or schedule source.
        client: class of redis-py's client, whose options it has, too.
    """
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if found is None:
        return ""
    given, own = found[1], _options_of(owner)
    names = [*dict.fromkeys([*own, *inspect.signature(client).parameters])]
    meant = [name for name in names if given.lower() in _SYNONYMS.get(name, ())]
    for among, cutoff in ((names, _CLOSE), (own, _SIMILAR), (names, _SIMILAR)):
        meant += get_close_matches(given.lower(), among, n=1, cutoff=cutoff)
    return f"Did you mean `{meant[0]}`?" if meant else ""
