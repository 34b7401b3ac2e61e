"""What both twins share, without I/O: key names, options, encoding, errors, scripts."""
