"""Training data: one file per modality, each giving endless batches from plain folders."""
