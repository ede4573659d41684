"""The REST API: routes for API Gateway's events, the service that implements them, and the live status of a job."""
