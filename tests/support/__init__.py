"""What the tests share: a real server, waiting without sleeping, a project to run commands in."""
