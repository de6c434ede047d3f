"""These tests need the distribution in mmlab_example_fifo/ installed, as `tox -e thirdparty` does."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("mmlab_example_fifo") else ["test_thirdparty.py"]
