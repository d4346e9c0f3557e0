"""High availability: who judges, what is frozen, what is started again where."""
