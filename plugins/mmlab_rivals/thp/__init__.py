"""Which memory becomes huge, and when, by published rivals of Linux's settings."""
