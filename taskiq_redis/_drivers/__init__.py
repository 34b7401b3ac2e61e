"""What differs between redis-py's two clients, under the same names: `aio` and `blocking`."""
