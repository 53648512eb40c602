"""The page that results are read on: a file of HTML with everything in it."""
