"""What TRL and Unsloth do not promise: settings, hooks, the entropy tap, and the versions that were run."""
