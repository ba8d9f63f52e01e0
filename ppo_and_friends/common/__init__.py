"""Small helpers that every room uses: files that are replaced whole, numbers as text, versions."""
