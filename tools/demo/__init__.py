"""The demo room: a whole line on one machine, everything real but the sensors. `make run`."""
