"""Jitted helpers for policy authors: list links, flags, rng, calls to core services. See each module."""
