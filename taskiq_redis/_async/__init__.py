"""All that talks to Redis, for asyncio; the blocking twin is generated from it."""
