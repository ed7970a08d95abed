"""The live page and its HTTP interface. Static files in `static/`; nothing is fetched from anywhere else."""
