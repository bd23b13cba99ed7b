"""Starts sandboxed processes, locks them in, and asks them one thing at a time."""
