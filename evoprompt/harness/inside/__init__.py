"""Runs inside a sandboxed process: the standard library only, and no import from the rest of the package."""
