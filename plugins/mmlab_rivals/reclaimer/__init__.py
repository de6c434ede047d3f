"""Reclaimers from textbooks and papers, a file a policy."""
