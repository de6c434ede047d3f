"""One small working policy a slot: what `mmlab new-plugin` starts an author's package from. Never registered under these names."""
