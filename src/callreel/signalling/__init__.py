"""SIP sockets and the roles played over them: user agent and recording server."""
