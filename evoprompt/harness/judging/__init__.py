"""Tells right from wrong: reads the tests of a task, has them run, and compares in the host."""
