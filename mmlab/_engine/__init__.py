"""Internal: composition, run loop, simulated clock, invariants. Nothing here is promised to plugins."""
