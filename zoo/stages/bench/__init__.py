"""Package or server → Report: how fast it answers, under a load that says exactly what it was."""
