"""How tasks travel: by publishing, through a list, through a stream."""
