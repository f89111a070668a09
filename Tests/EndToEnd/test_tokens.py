"""Connection tokens: who is let in, who is not, and how a connection is prolonged."""

import base64
import json
import time

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from harness.cluster import LoneNode
from harness.raw import RawClient
from harness.tokens import part, unsigned


def hs256(secret, header=None, **claims):
    return jwt.encode(claims, secret, algorithm="HS256", headers=header)


# Each: a function of the secret that makes the token; None where it is refused with 3500, or the error of the reply.
REFUSED = {
    "garbage": (lambda secret: "garbage", 3500),
    "empty parts": (lambda secret: "..", 3500),
    "wrong key": (lambda secret: hs256("another secret that is just as long", sub="ann"), 3500),
    "alg none": (lambda secret: unsigned("ann"), 3500),
    "alg None": (lambda secret: unsigned("ann").replace(part({"alg": "none", "typ": "JWT"}), part({"alg": "None"})), 3500),
    "no signature": (lambda secret: hs256(secret, sub="ann").rpartition(".")[0] + ".", 3500),
    "changed payload": (
        lambda secret: ".".join([hs256(secret, sub="ann").split(".")[0], part({"sub": "ben"}), hs256(secret, sub="ann").split(".")[2]]),
        3500,
    ),
    "no sub": (lambda secret: hs256(secret, name="Ann"), 3500),
    "empty sub": (lambda secret: hs256(secret, sub=""), 3500),
    "illegal sub": (lambda secret: hs256(secret, sub="ann smith"), 3500),
    "long sub": (lambda secret: hs256(secret, sub="a" * 65), 3500),
    "a subscription token": (lambda secret: hs256(secret, sub="ann", channel="room:x"), 3500),
    "expired": (lambda secret: hs256(secret, sub="ann", exp=int(time.time()) - 60), 109),
    "not yet valid": (lambda secret: hs256(secret, sub="ann", nbf=int(time.time()) + 600), 109),
    "expired and forged": (lambda secret: hs256("another secret that is just as long", sub="ann", exp=1), 3500),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_refused(cluster, open_raw, case):
    make, code = REFUSED[case]
    client = await open_raw(0, connect=False)
    command = client.numbered("connect", {"token": make(cluster.env["FANFARE_TOKEN_SECRET"])})
    await client.send(command)
    if code < 1000:
        assert (await client.reply(1))["error"]["code"] == code
    else:
        assert (await client.close_code())[0] == code


async def test_number_as_sub_is_refused(cluster, open_raw):
    secret = cluster.env["FANFARE_TOKEN_SECRET"]
    head = f'{part({"alg": "HS256", "typ": "JWT"})}.{part({"sub": 42})}'
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(head.encode(), secret.encode())
    client = await open_raw(0, connect=False)
    await client.send(client.numbered("connect", {"token": f"{head}.{part(signature)}"}))
    assert (await client.close_code())[0] == 3500


async def test_without_exp_a_connection_does_not_expire(cluster, open_raw):
    client = await open_raw(0, token=cluster.token("ann", ttl=None))
    assert not client.hello.get("expires")


# Each: the payload as it stands, the time to live in seconds (None: never expires) or the code it is refused with.
CLAIMS = {
    "exp with a fraction": ('{"sub":"ann","exp":%d.9}' % (int(time.time()) + 3600), "about an hour"),
    "exp with an exponent": ('{"sub":"ann","exp":9.9e9}', "long"),
    "exp beyond 53 bits": ('{"sub":"ann","exp":9007199254740993}', "long"),
    "exp beyond 64 bits": ('{"sub":"ann","exp":100000000000000000000}', "long"),
    "exp beyond all": ('{"sub":"ann","exp":1e300}', "long"),
    "exp before all": ('{"sub":"ann","exp":-1e300}', 109),
    "exp null": ('{"sub":"ann","exp":null}', None),
    "exp as text": ('{"sub":"ann","exp":"4000000000"}', 3500),
    "nbf as text": ('{"sub":"ann","nbf":"yesterday"}', 3500),
    "exp now": ('{"sub":"ann","exp":0}', 109),
    "claims of others": ('{"sub":"ann","iat":"today","aud":["x"],"iss":"y","jti":5,"azp":{},"role":"boss"}', None),
    "expire_at never": ('{"sub":"ann","exp":4000000000,"expire_at":0}', None),
    "sub twice": ('{"sub":"ben","sub":"ann"}', None),
    "a name that is none": ('{"sub":"ann","name":5}', 3500),
    "channels as text": ('{"sub":"ann","channels":"room:x"}', 3500),
    "info nested too deep": ('{"sub":"ann","info":{"x":%s}}' % ("[" * 512 + "]" * 512), 3500),
}


@pytest.mark.parametrize("case", CLAIMS, ids=str)
async def test_claims(cluster, open_raw, case):
    payload, outcome = CLAIMS[case]
    head = f'{part({"alg": "HS256", "typ": "JWT"})}.{part(payload.encode())}'
    secret = cluster.env["FANFARE_TOKEN_SECRET"].encode()
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(head.encode(), secret)
    client = await open_raw(0, connect=False)
    await client.send(client.numbered("connect", {"token": f"{head}.{part(signature)}"}))
    if outcome in (109, 3500):
        if outcome == 109:
            assert (await client.reply(1))["error"]["code"] == 109
        else:
            assert (await client.close_code())[0] == 3500
        return
    hello = (await client.reply(1))["connect"]
    assert "user:ann" in hello["subs"]
    if outcome is None:
        assert "expires" not in hello and "ttl" not in hello
    else:
        assert hello["expires"] and (1800 <= hello["ttl"] <= 3600 if outcome == "about an hour" else hello["ttl"] > 10**9)


async def test_longest_sub(cluster, open_raw):
    user = "aZ0_.-" + "x" * 58
    client = await open_raw(0, user=user)
    assert f"user:{user}" in client.hello["subs"]


async def test_refresh(cluster, open_raw):
    client = await open_raw(0, token=cluster.token("ann", ttl=60))
    result = await client.result("refresh", token=cluster.token("ann", ttl=900))
    assert result["expires"] and 800 < result["ttl"] <= 900


@pytest.mark.parametrize(
    "user,ttl,forge,code", [("ann", -60, False, 3005), ("ben", 60, False, 3500), ("ann", 60, True, 3500)],
    ids=["expired", "another user", "forged"],
)
async def test_refresh_refused(cluster, open_raw, user, ttl, forge, code):
    client = await open_raw(0, token=cluster.token("ann", ttl=60))
    token = cluster.token(user, ttl=ttl)
    await client.send(client.numbered("refresh", {"token": token[:-8] + "AAAAAAAA" if forge else token}))
    assert (await client.close_code())[0] == code


async def test_expires_without_refresh(cluster, open_raw):
    """ttl + 25 s of grace, then 3005."""
    client = await open_raw(0, token=cluster.token("ann", ttl=1))
    assert (await client.close_code(within=45))[0] == 3005


# --- JWKS -----------------------------------------------------------------------------------------------------------------


def jwk(algorithm, private, kid):
    public = private.public_key()
    encoder = {
        "RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm, "EdDSA": jwt.algorithms.OKPAlgorithm,
    }[algorithm]
    return {**encoder.to_jwk(public, as_dict=True), "kid": kid, "alg": algorithm, "use": "sig"}


@pytest.fixture(scope="module")
def keys():
    return {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }


@pytest.fixture(scope="module")
def keyed_node(state_folder, keys):
    file = state_folder / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(algorithm, key, algorithm) for algorithm, key in keys.items()]}))
    with LoneNode(state_folder, "--jwks", file, FANFARE_TOKEN_SECRET=None) as node:
        yield node


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_key_set(keyed_node, keys, algorithm):
    token = jwt.encode({"sub": "ann", "exp": int(time.time()) + 60}, keys[algorithm], algorithm, headers={"kid": algorithm})
    client = await RawClient.connected(keyed_node.websocket(), token)
    assert "user:ann" in client.hello.get("subs", {}) or client.hello["client"]
    await client.close()


def pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def hs_with(secret, kid):
    """An HS256 token whose secret is public; the library itself refuses to make it."""
    head = f'{part({"alg": "HS256", "typ": "JWT", "kid": kid})}.{part({"sub": "ann"})}'
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(head.encode(), secret)
    return f"{head}.{part(signature)}"


KEY_SET_REFUSED = {
    "HS256 with the public key as PEM": lambda keys: hs_with(pem(keys["RS256"]), "RS256"),
    "HS256 with the public modulus": lambda keys: hs_with(
        base64.urlsafe_b64decode(jwk("RS256", keys["RS256"], "k")["n"] + "=="), "RS256"
    ),
    "HS256 with nothing": lambda keys: hs_with(b"", "RS256"),
    "unknown kid": lambda keys: jwt.encode({"sub": "ann"}, keys["ES256"], "ES256", headers={"kid": "other"}),
    "another key": lambda keys: jwt.encode(
        {"sub": "ann"}, ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": "ES256"}
    ),
    "another algorithm's kid": lambda keys: jwt.encode({"sub": "ann"}, keys["ES256"], "ES256", headers={"kid": "RS256"}),
    "none": lambda keys: unsigned("ann"),
}


@pytest.mark.parametrize("case", KEY_SET_REFUSED, ids=str)
async def test_key_set_refuses(keyed_node, keys, case):
    client = await RawClient.open(keyed_node.websocket())
    await client.send(client.numbered("connect", {"token": KEY_SET_REFUSED[case](keys)}))
    assert (await client.close_code())[0] == 3500


async def test_the_server_api_wants_its_key(cluster):
    async with httpx.AsyncClient(base_url=cluster.url(0), trust_env=False) as client:
        body = {"channel": "room:x"}
        assert (await client.post("/api/history", json=body)).status_code == 401
        assert (await client.post("/api/history", json=body, headers={"X-API-Key": "wrong"})).status_code == 401
        key = cluster.env["FANFARE_API_KEY"]
        assert (await client.post("/api/history", json=body, headers={"X-API-Key": key})).status_code == 200
        header = {"Authorization": f"apikey {key}"}
        assert (await client.post("/api/history", json=body, headers=header)).status_code == 200
