"""The same tools and tasks behind other people's interfaces: `mcp_server` (Model Context Protocol), `gym_env`
(gymnasium). Both need `pip install envtune[interop]`.
"""
