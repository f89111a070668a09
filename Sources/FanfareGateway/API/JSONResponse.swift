package import FanfareModel
package import HTTPTypes
package import Hummingbird
internal import NIOCore

extension Response {
    /// A response whose body is this JSON.
    package static func json(
        _ body: Bytes, status: HTTPResponse.Status = .ok, retryAfterSeconds: Int? = nil
    ) -> Response {
        .bytes(
            body, contentType: "application/json; charset=utf-8", status: status, retryAfterSeconds: retryAfterSeconds)
    }

    package static func text(
        _ text: String, status: HTTPResponse.Status = .ok, retryAfterSeconds: Int? = nil
    ) -> Response {
        .bytes(
            Bytes((text + "\n").utf8), contentType: "text/plain; charset=utf-8", status: status,
            retryAfterSeconds: retryAfterSeconds)
    }

    package static func bytes(
        _ body: Bytes, contentType: String, status: HTTPResponse.Status = .ok, retryAfterSeconds: Int? = nil
    ) -> Response {
        var response = Response(status: status, body: ResponseBody(byteBuffer: ByteBuffer(bytes: body)))
        response.headers[.contentType] = contentType
        response.headers[.cacheControl] = "no-store"
        if let retryAfterSeconds { response.headers[.retryAfter] = String(max(1, retryAfterSeconds)) }
        return response
    }
}
