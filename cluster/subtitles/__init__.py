"""Subtitle files: parsing and layout. Never which words are said."""
