"""Images: tiles, the codec and its header, packets and transparency."""
