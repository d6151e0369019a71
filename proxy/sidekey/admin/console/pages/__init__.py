"""The pages of the console, each for a part of what the API gives."""
