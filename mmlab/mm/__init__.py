"""What is Linux but not a policy: zonelists, watermarks, page tables, address spaces, page cache, swap. Kernels by their Linux names."""
