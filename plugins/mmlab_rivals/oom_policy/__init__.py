"""Other ways of choosing an OOM victim."""
