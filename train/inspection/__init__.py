"""The detector of defects in pictures: made defects, network, data and recipe."""
