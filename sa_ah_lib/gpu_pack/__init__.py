"""A pack of this project for a machine with a GPU and no network: sources, wheels, weights, and how to start from them.

The machine is expected to have torch built for CUDA, transformers, peft and triton, and what those bring along.
"""
