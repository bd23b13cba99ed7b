"""What a run survives: faults of the model's server, of the machine, and of whoever stops it."""
