"""Autoencoders of a user's own data in training: network, data, loss and recipe."""
