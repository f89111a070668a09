"""The server API of one node."""

import httpx


class ApiError(Exception):
    def __init__(self, code, message, body):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.body = body


class Api:
    def __init__(self, url, key, timeout=15.0):
        self.url = url
        self.client = httpx.AsyncClient(
            base_url=url,
            headers={"X-API-Key": key},
            timeout=timeout,
            trust_env=False,
            limits=httpx.Limits(max_connections=32),
        )

    async def raw(self, method, body):
        """The whole response of POST /api/<method>."""
        return await self.client.post(f"/api/{method}", json=body)

    async def __call__(self, method, /, **parameters):
        """The result; ApiError for `error`."""
        response = await self.raw(method, parameters)
        assert response.status_code == 200, f"{method}: HTTP {response.status_code} {response.text[:300]}"
        body = response.json()
        if "error" in body:
            raise ApiError(body["error"]["code"], body["error"]["message"], body)
        if method == "batch":
            return body
        return body["result"]

    async def error(self, method, /, **parameters):
        """The error's code; fails where there is none."""
        try:
            result = await self(method, **parameters)
        except ApiError as error:
            assert error.message
            return error.code
        raise AssertionError(f"{method} answered {result}")

    async def close(self):
        await self.client.aclose()
