"""Call the API with your IAM credentials. Needs only `botocore`.

`python docs/recipes/call_api.py POST "$API_URL/v1/executions/support-chat/async" '{"input_data": {}}'`
"""

import os
import re
import sys
import urllib.error
import urllib.request

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.session import Session

USAGE = "usage: call_api.py METHOD URL [BODY]"


def call(method: str, url: str, body: str = "", *, idempotency_key: str | None = None) -> tuple[int, str]:
    """Return the status and the body of an answer. The caller needs `execute-api:Invoke` on `ApiInvokeArn`.

    Raises SystemExit with a message if the URL, the region, the credentials or the answer is missing.
    """
    if not url.startswith(("https://", "http://")):
        raise SystemExit(f"{url!r} is not the URL of an API: is API_URL set?")
    session = Session()
    # The host name of an API contains its region. A custom domain does not.
    named = re.match(r"https://[^/]+\.execute-api\.([a-z0-9-]+)\.", url)
    try:
        region = named[1] if named else os.environ.get("AWS_REGION") or session.get_config_variable("region")
        credentials = session.get_credentials()
    except BotoCoreError as error:  # for example an unknown profile or an expired login
        raise SystemExit(f"AWS credentials can't be used: {error}") from error
    if not region:
        raise SystemExit("no AWS region: set AWS_REGION, or a region in your profile")
    if credentials is None:
        raise SystemExit("no AWS credentials: log in, or set AWS_PROFILE")
    headers = {"Content-Type": "application/json"}
    if idempotency_key:
        headers["Idempotency-Key"] = idempotency_key
    request = AWSRequest(method, url, headers, body.encode())
    try:
        SigV4Auth(credentials, "execute-api", region).add_auth(request)
    except BotoCoreError as error:
        raise SystemExit(f"AWS credentials can't be used: {error}") from error
    signed = urllib.request.Request(url, body.encode() or None, dict(request.headers), method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(signed, timeout=30) as answer:  # noqa: S310  # the URL of the user's own API
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()
    except OSError as error:
        raise SystemExit(f"no answer from {url}: {error}") from error


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:  # noqa: PLR2004  # two or three arguments
        raise SystemExit(USAGE)
    status, text = call(*sys.argv[1:])
    print(status, text)  # noqa: T201  # the output of the command
