"""A trained run as an adapter, merged weights or GGUF, with its model card; its token weights for other trainers."""
