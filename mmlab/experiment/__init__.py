"""Experiments: a TOML file becomes cells, cells become results. The only part of mmlab that reads TOML."""
