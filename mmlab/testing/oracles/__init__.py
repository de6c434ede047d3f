"""Plain-Python models that the kernels are compared with: slow, obvious, written without looking at the kernels."""
