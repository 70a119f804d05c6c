"""The small tasks that ship with the library: data, a perfect verifier and a tiny policy of the real classes."""
