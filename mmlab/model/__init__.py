"""The simulated machine's state: arrays, their layout, and the names of what they hold. Public for policy authors."""
