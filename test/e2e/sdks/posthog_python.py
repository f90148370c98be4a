"""Sends events with the published posthog for Python, as an application would, and prints what failed and was sent.

Arguments: host, token, events, users, name, mode (v0 or v1), compression, secret key. With a secret key the
client decides flags by itself, as far as it can, and stays until it has asked for their definitions twice.
"""

import json
import sys
import time

import posthog

host, token, events, users, name, mode, compression, secret_key = sys.argv[1:9]
failures = []
sent = []


def note(message):
    sent.append({"uuid": message["uuid"], "event": message["event"], "distinctId": message["distinct_id"]})
    return message


options = {}
if mode == "v1":
    options.update(capture_mode="v1", capture_compression=compression)
else:
    options.update(gzip=compression == "gzip")
if secret_key:
    options.update(secret_key=secret_key, poll_interval=0.2)
client = posthog.Posthog(
    token,
    host=host,
    flush_interval=0.2,
    before_send=note,
    on_error=lambda error, batch: failures.append(str(error)),
    **options,
)
for user in range(int(users)):
    distinct_id = f"{name}-user-{user}"
    client.capture(f"{name} before identify", distinct_id=f"{name}-anon-{user}")
    client.capture(
        "$identify",
        distinct_id=distinct_id,
        properties={"$anon_distinct_id": f"{name}-anon-{user}", "$set": {"plan": "pro", "index": user}},
    )
    client.group_identify("company", f"company-{user % 5}", {"size": user % 5}, distinct_id=distinct_id)
for index in range(int(events)):
    client.capture(
        f"{name} event",
        distinct_id=f"{name}-user-{index % int(users)}",
        properties={"index": index, "sent_ms": int(time.time() * 1000)},
        groups={"company": f"company-{index % 5}"},
    )
    if index % 100 == 99:
        time.sleep(0.02)

if secret_key:
    client.load_feature_flags()
    flags = client.evaluate_flags(f"{name}-user-0")
    if flags.is_enabled("no-such-flag") or flags.get_flag("no-such-flag") is not None:
        failures.append("a flag that nobody made has a value")
    first = client._last_feature_flag_poll
    until = time.monotonic() + 10
    while client._last_feature_flag_poll == first and time.monotonic() < until:
        time.sleep(0.02)
client.shutdown()
print(json.dumps({"failures": failures, "sent": sent}))
