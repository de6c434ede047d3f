"""Linux's reclaimers."""
