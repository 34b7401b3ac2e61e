"""What differs between asyncio and threads, under the same names: `aio` and `blocking`."""
