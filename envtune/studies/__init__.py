"""Studies of the environment: how calls fail, what hints say then, what hostile calls do, what a step costs."""
