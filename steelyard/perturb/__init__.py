"""What goes wrong outside: seeded changes of a sample that say of themselves whether the right answer survives."""
