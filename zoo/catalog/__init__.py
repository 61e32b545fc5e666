"""The zoo as pages: what the registry and the recorded reports say, drawn as a static site."""
