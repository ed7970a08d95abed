"""Sound and pictures in: ports, and one adapter per source."""
