"""VMA indexes that rival the maple tree."""
