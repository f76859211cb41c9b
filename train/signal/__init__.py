"""Models of 1-D sensor signals in training: network, data, loss and recipe."""
