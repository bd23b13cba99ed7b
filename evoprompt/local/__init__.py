"""A small real model in this process (SmolLM2-135M-Instruct), and the adapter that it understands."""
