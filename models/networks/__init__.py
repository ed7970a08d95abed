"""Network definitions in Keras; training tools alone import them, no box does."""
