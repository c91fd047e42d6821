"""What rules do to the gradient of frozen rollouts, and to the tokens of logged ones, without training."""
