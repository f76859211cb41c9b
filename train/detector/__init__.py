"""Detectors of what is strange in a series: network, data and recipe."""
