"""What an agent decides. Pure: time and chance come in as arguments."""
