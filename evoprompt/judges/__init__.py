"""What judges need to know of a student: what it is called with, and what it may answer."""
