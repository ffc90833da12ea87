"""Encoders and their tokenizers: names, built-in families, safe loading, and the text classifier on top."""
