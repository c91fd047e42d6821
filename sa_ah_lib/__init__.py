"""Token-weighted GRPO: the rewards, weights and trainer patch of AH-GRPO and SA-AH-GRPO (arXiv 2606.05434).

Nothing is imported here, so ``import sa_ah_lib`` needs neither torch nor unsloth; import the module you need.
"""

__version__ = "0.1.0"
