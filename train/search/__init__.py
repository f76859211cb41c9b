"""The search for a network that keeps within a device's limits: `python -m train.search`.

It stands above training and export, both of which it uses, and nothing uses it.
"""
