"""A whole line in virtual time, drawn from a seed; every guarantee is checked at every step (docs/simulator.md)."""
