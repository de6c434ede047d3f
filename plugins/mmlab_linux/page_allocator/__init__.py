"""The page_allocator slot: the buddy allocator with its per-CPU lists."""
