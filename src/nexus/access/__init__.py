"""Access: who may do what. Projects, tokens, sessions."""
