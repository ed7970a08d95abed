"""Pure numpy: sound to 34 channels every 10 ms, and nonlinear features of a window."""
