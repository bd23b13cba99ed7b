"""The model `simulated`: plays every role without a network, for the demo, the tests and the notebooks."""
