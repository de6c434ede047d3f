"""VMA indexes of Linux: the maple tree."""
