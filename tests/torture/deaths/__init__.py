"""The named moments of death: where they are, what is going on there, and what has to hold afterwards."""
