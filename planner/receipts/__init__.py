"""Receipts: what nodes sign about the bytes they saw, and the log anyone can check."""
