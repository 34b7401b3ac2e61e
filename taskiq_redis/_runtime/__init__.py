"""Concurrency on asyncio and on threads, under the same names: `aio` and `blocking`."""
