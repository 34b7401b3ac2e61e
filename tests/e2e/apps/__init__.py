"""What the programs of the tests run; each module has a `broker`, made by the test's setting."""
