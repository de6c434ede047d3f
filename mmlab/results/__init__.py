"""What a run leaves behind: tidy tables, statistics, the report, and `Result` to use them from Python."""
