"""Who dies when memory is exhausted, by Linux's rule."""
