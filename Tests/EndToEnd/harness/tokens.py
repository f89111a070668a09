"""Connection tokens, right and wrong."""

import base64
import json
import time

import jwt


def token(secret, user, **claims):
    """An HS256 token; `ttl` seconds from now become `exp`."""
    payload = {"sub": user}
    ttl = claims.pop("ttl", 3600)
    if ttl is not None:
        payload["exp"] = int(time.time()) + ttl
    payload.update(claims)
    return jwt.encode(payload, secret, algorithm="HS256")


def part(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(user):
    """`alg: none`, with an empty signature."""
    return f'{part({"alg": "none", "typ": "JWT"})}.{part({"sub": user})}.'
