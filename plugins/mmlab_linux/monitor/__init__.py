"""What watches accesses: nothing, or everything."""
