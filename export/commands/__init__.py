"""One command of ``deblur-export`` a file."""
