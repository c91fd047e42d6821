"""The project's own micro models: small Qwen2 models, the tasks they are warm-started on, and what was measured."""
