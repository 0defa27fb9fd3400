"""The same tools and tasks behind standard interfaces: `mcp_server` (Model Context Protocol) and `gym_env` (gymnasium).
Both need `pip install 'envtune[interop]'`.
"""
