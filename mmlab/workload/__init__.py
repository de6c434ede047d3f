"""What runs on the simulated machine: scripts, generated streams, access traces, recorded programs. One record for all: `EventStream`."""
