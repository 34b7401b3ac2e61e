"""Task modules for workers under faults."""
