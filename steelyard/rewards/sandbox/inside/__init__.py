"""What runs within the sandbox: the fork server, the servant that holds the program, and the judge that holds the tests."""
