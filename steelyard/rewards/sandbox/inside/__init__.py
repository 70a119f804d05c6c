"""What runs within the sandbox: the fork server, the servant that holds the program, the judge that holds the tests."""
