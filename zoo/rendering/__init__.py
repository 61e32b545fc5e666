"""Chat templates, which nobody checked: rendered in a sandbox, inside a worker process."""
