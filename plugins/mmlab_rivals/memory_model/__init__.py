"""Memory models that Linux does not use on this machine."""
