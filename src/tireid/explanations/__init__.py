"""Pages that show what a trained method attends to: queries, dictionary atoms, support sets."""
