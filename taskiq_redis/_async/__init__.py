"""All that talks to Redis. Written by hand; the blocking twin is generated from it."""
