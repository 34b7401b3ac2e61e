"""Ask the kernel for how long a connection has been silent."""

import socket
import struct
import sys
from math import inf
from typing import Any

#: Linux' `struct tcp_info` up to `tcpi_last_data_recv`: bytes, then numbers
_TCP_INFO = struct.Struct("=8x12I")
#: indexes of `tcpi_snd_mss`, which is never 0, and of `tcpi_last_data_recv`
_SEGMENT_SIZE, _LAST_RECEIVED = 2, 11
#: ms; the kernel's clock may tick a hundred times a second only
_TICK = 10


def silence_of(sock: Any) -> float:
    """Return how long ago a socket received data, in s, rounded up; infinity if that is unknown.

    Only Linux reports it (TCP_INFO), so that the paths without faults need no clock.

    Args:
        sock: a connected TCP socket.
    """
    if sys.platform != "linux":
        return inf
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        numbers = _TCP_INFO.unpack(info)
    except (AttributeError, OSError, ValueError, struct.error):
        # Among others, it was closed: uvloop then raises a ValueError.
        return inf
    # Other kernels with Linux' system calls don't measure anything.
    return (numbers[_LAST_RECEIVED] + _TICK) / 1000 if numbers[_SEGMENT_SIZE] else inf
