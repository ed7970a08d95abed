"""Training: recordings in, the released bundle out."""
