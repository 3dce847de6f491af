"""An index of images, and what sentences and images find in it."""
