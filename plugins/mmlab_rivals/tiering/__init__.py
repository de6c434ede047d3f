"""Tiering policies that compete with Linux's."""
