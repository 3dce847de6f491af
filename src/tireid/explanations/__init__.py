"""What a trained method looks at, as pictures: pages of queries, of atoms and of support sets."""
