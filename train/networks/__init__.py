"""The networks: one file per modality."""
