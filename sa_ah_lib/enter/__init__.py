"""A rule of one's own: checked, replayed on logged rollouts, trained, and its row of the board.

``python -m sa_ah_lib.enter --help``.
"""
