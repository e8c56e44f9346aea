"""The user's configuration: what it holds, how it is read and checked, and which model it chooses for a prompt."""
