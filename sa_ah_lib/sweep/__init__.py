"""Many runs: a grid of notebook parameters, one cell per combination. ``python -m sa_ah_lib.sweep --help``."""
