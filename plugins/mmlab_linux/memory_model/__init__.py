"""Memory models as Linux has them."""
