"""Measurements of the environment: how calls fail, what hints say of it, what hostile calls do, what a step costs."""
