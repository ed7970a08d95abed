"""Real programs on a real broker while they are killed at random: what was acknowledged is there, once, afterwards."""
