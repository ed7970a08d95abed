"""The door through which recordings become an audio-visual emotion database: import, label, check, split, describe."""
