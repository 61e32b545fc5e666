"""Serve packages over HTTP, in OpenAI's protocol."""
