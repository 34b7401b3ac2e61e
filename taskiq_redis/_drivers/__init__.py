"""Code that differs between redis-py's two clients: `aio` and `blocking` have the same names."""
