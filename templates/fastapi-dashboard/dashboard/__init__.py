"""The application that was there before: users, boards and samples."""

BOARD = "machine"
"""The board that everyone watches who signs up."""
EVENT = "sample"
