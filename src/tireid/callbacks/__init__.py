"""What happens around training: evaluation, records, pictures."""
