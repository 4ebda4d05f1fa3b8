"""Arrays computed once and shared by all runs, memory-mapped from the cache folder."""
