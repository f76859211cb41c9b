"""What a model costs on this machine: measured, told and drawn."""
