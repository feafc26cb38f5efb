"""The nouns of the field and the one cost model; imports nothing but pydantic."""
