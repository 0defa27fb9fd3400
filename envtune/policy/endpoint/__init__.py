"""A model behind an OpenAI-compatible server, as a policy."""

from envtune.policy.endpoint.endpoint import KEY_VARIABLE, MESSAGE_TOKENS, Endpoint
from envtune.policy.endpoint.errors import EndpointError

__all__ = ["KEY_VARIABLE", "MESSAGE_TOKENS", "Endpoint", "EndpointError"]
