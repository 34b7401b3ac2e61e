"""Rules that both twins share: names, options, bytes. No I/O, no clients, nothing that waits."""
