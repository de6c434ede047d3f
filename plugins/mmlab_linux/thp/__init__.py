"""Which faults get huge pages, by Linux's three settings."""
