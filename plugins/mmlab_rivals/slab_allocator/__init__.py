"""Rivals for the slab_allocator slot."""
