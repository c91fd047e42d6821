"""From logs to numbers: loading, statistics, comparisons and their answer. Needs no torch."""
