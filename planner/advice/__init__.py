"""Advice: which way to serve the requests is the better one, and how firmly that holds."""
