"""Video files: everything about time, colour, sound and containers."""
