"""Image and text encoders. All return `Tokens`, so methods work with any of them."""
