"""The detector of defects in images: made defects, network, data and recipe."""
