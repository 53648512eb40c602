"""Frames that do not fit into the memory: how much there is, how much is needed, and tiles."""
