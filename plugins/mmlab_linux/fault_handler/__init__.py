"""Fault handlers."""
