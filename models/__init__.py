"""What the networks are and what a model bundle promises."""
