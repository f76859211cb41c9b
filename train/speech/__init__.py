"""Speech models in training: network, data, loss and recipe."""
