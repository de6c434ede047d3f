"""For authors of policies: a small machine, plain-Python oracles, and the conformance kit."""
