"""Which memory a page belongs in."""
