"""Training in torch: `python -m train CONFIG.toml`. Nothing here is shipped to devices."""
