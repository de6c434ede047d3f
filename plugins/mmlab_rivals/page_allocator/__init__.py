"""Rivals for the page_allocator slot."""
