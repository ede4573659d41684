"""Ask the API as the IAM principal that you are: needs nothing but boto3's botocore.

`python docs/recipes/call_api.py POST "$API_URL/v1/executions/support-chat/async" '{"input_data": {}}'`
"""

import sys
import urllib.error
import urllib.request

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session


def ask(method: str, url: str, body: str = "", *, idempotency_key: str | None = None) -> tuple[int, str]:
    """Return the status and the body of an answer. The caller needs `execute-api:Invoke` on `ApiInvokeArn`."""
    session = Session()
    credentials = session.get_credentials()
    if credentials is None:
        raise SystemExit("no AWS credentials: log in, or set AWS_PROFILE")
    headers = {"Content-Type": "application/json"}
    if idempotency_key:
        headers["Idempotency-Key"] = idempotency_key
    request = AWSRequest(method, url, headers, body.encode())
    # The region of the API: `https://….execute-api.<region>.amazonaws.com/live`.
    region = session.get_config_variable("region")
    SigV4Auth(credentials, "execute-api", region).add_auth(request)
    signed = urllib.request.Request(url, body.encode() or None, dict(request.headers), method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(signed, timeout=30) as answer:  # noqa: S310  # the URL is our own API's
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


if __name__ == "__main__":
    status, text = ask(*sys.argv[1:4])
    print(status, text)  # noqa: T201  # that is what a command is for
