"""The REST API: routes of API Gateway, the service behind them, and the live status of a running job."""
