"""A trained run as an adapter, merged weights or GGUF, checked, with its model card."""
