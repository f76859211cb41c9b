"""Latents to bytes and back, in integers; knows no modality."""
