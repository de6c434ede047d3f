"""Slab allocators as Linux has them."""
