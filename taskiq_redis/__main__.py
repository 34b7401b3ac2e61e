"""Run the command line: ``python -m taskiq_redis``."""

from taskiq_redis.cli import main

if __name__ == "__main__":
    main()
