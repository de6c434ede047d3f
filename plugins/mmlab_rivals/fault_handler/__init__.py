"""Other answers to page faults, each Linux's demand paging but for one thing."""
