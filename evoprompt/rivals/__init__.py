"""DSPy's own optimizers behind the same door as ours: same journal, same budget, same honest scores."""
