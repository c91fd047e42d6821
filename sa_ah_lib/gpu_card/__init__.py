"""What one GPU does with this project, measured within minutes: equalities, times, real runs, and a card of them.

Its stages run the scripts of tests/ and the notebooks, so it needs a checkout of the project, or the pack that
``gpu_pack`` makes of one for a machine without internet.
"""
