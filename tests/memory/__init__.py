"""Brokers, results and schedules in memory, and the tools for tests without Redis."""
