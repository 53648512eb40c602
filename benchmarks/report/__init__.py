"""What results are read on: a page with everything in it, and tables in documents."""
