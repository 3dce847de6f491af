"""Detectors of people: what finds them in scenes before they are indexed."""
