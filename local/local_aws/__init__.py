"""The application, deployed by the real SAM CLI into MiniStack."""
