"""The commands of ``deblur-bench``, one a file."""
