"""Task modules for the tested programs; each makes its `broker` from the test's setting."""
