"""The families of losses, one file each; families never import one another."""
