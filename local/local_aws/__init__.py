"""Deploys the application with the SAM CLI into MiniStack, a local AWS."""
