"""Data sets of images and captions of people: files, batches and everything between."""
