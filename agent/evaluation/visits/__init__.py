"""Which states episodes visited, from the physics states that they recorded."""
