"""The photo denoiser in training: network, damage, loss and recipe."""
