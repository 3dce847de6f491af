"""Text-to-image person re-identification: LGUR and LCR2S on shared encoders."""
