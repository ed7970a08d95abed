"""Golden vectors of the line protocol: `python -m tools.vectors` rebuilds tests/vectors/line."""
