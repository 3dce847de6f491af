"""Data sets of images and captions of people, from files to batches."""
